"""Twin of `phantom_plug_cycles`: lists what was said of each EVSE and looks for cycles at each return."""

from __future__ import annotations

from typing import Any

from .plain import Expected, S, Story

_PLUGGED = {"Occupied", "Preparing", "Charging", "SuspendedEV", "SuspendedEVSE", "Finishing"}


def emissions(story: Story) -> list[Expected]:
    """Return what the detector should emit with its defaults."""
    rows = range(len(story.evses))
    return [e for row in rows for e in _Evse(row, story).all()]


class _Evse:
    def __init__(self, row: int, story: Story) -> None:
        self.row, self.story = row, story
        self.out: list[Expected] = []
        self.said: list[Any] = []  # since the plug-in
        self.cycles: list[tuple[int, int]] = []
        self.open: dict[str, Any] = {}

    def all(self) -> list[Expected]:
        station = self.story.evses[self.row][0]
        mine = [
            r
            for r in self.story.records
            if type(r).__name__ in {"Status", "Transaction"}
            and (
                r.evse_row == self.row
                or (type(r).__name__ == "Status" and r.evse_row < 0 and r.station_row == station)
            )
        ]
        for message in sorted(self.story.messages, key=lambda m: m.order):
            while mine and mine[0].at.order <= message.order:
                self.take(mine.pop(0))
            if self.open and message.effect_ns >= self.open["heard"] + 120 * S:
                self.emit("clear", message.order, {"cycles": self.open["n"]})
                self.open, self.cycles = {}, []
        for record in mine:
            self.take(record)
        return self.out

    def take(self, record: Any) -> None:
        if type(record).__name__ == "Transaction":
            if self.said:
                self.said.append(record)
            return
        state = record.status16 or record.status
        if state in _PLUGGED:
            self.said.append(record)
        elif state == "Available" and self.said:
            said, self.said = self.said, []
            self.returned(said, record)

    def returned(self, said: list[Any], record: Any) -> None:
        began = said[0].time_ns
        if self.charged(said) or record.time_ns < began:
            if not self.open:
                self.cycles = []
            return
        self.cycles.append((began, record.time_ns))
        live = record.at.recv_ns - record.time_ns <= 900 * S
        three = self.cycles[-3:]
        span = record.time_ns - three[0][0]
        if self.open:
            self.open["n"] += 1
            self.open["last"] = max(self.open["last"], record.time_ns)
            self.open["heard"] = record.at.effect_ns
            if self.open["live"] or not live:
                return
            self.open["live"] = True
        elif len(three) == 3 and 0 <= span <= 120 * S:
            self.open = {
                "start": three[0][0], "last": record.time_ns, "live": live, "n": 3,
                "heard": record.at.effect_ns,
            }  # fmt: skip
        else:
            return
        evidence = {"cycles": self.open["n"], "span_s": span / S, "limit_s": 120.0}
        self.emit("raise", record.at.order, evidence)

    def charged(self, said: list[Any]) -> bool:
        registers = []
        for record in said:
            if type(record).__name__ == "Status":
                if (record.status16 or record.status) in {"Charging", "SuspendedEV", "SuspendedEVSE"}:
                    return True
            else:
                if record.charging_state == "Charging":
                    return True
                if record.reg_mwh is not None:
                    registers.append(record.reg_mwh)
        return any(reg - registers[0] >= 1000 for reg in registers)

    def emit(self, kind: str, order: int, evidence: dict[str, float]) -> None:
        self.out.append(
            Expected(
                order, "phantom_plug_cycles", "evse", self.row, kind, "warning", self.open["live"],
                self.open["start"], self.open["last"], evidence,
            )
        )  # fmt: skip
