"""Twin of `start_failures`: keeps every attempt of every EVSE and weighs all of them at each new one."""

from __future__ import annotations

import math
from typing import Any

from .plain import Expected, S, Story

_NO_FAULT = {
    "DeAuthorized",
    "ImmediateReset",
    "Reboot",
    "PowerLoss",
    "SoftReset",
    "HardReset",
    "MasterPass",
}
_POINTS = 2048
_GRID = [(i + 0.5) / _POINTS for i in range(_POINTS)]


def emissions(story: Story) -> list[Expected]:
    """Return what the detector should emit with its defaults."""
    twin = _Twin(story)
    for record in story.records:
        twin.take(record)
    return twin.out


def _beta(a: float, b: float) -> list[float]:
    scale = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b)
    cells = [math.exp(scale + (a - 1) * math.log(x) + (b - 1) * math.log1p(-x)) for x in _GRID]
    total = math.fsum(cells)
    return [cell / total for cell in cells]


def _twice(own: tuple[float, float], site: tuple[float, float]) -> float:
    cells = _beta(*own)
    below = [0.0]
    for cell in cells:
        below.append(below[-1] + cell)
    found = []
    for q, weight in zip(_GRID, _beta(*site), strict=True):
        at = 2.0 * q * _POINTS
        i = int(at)
        cdf = 1.0 if i >= _POINTS else below[i] + (at - i) * cells[i]
        found.append(weight * (1.0 - cdf))
    return math.fsum(found)


class _Twin:
    def __init__(self, story: Story) -> None:
        self.story = story
        self.out: list[Expected] = []
        self.tx: dict[int, list[Any]] = {}  # messages of the open transaction
        self.ended: dict[int, str] = {}
        self.decided: dict[int, bool] = {}
        self.reports: dict[int, int] = {}
        self.attempts: dict[int, list[tuple[int, bool]]] = {}  # time faded to, failed
        self.open: dict[int, tuple[int, bool]] = {}  # start, live

    def take(self, record: Any) -> None:
        name, row = type(record).__name__, record.evse_row if hasattr(record, "evse_row") else -1
        if row < 0:
            return
        if name == "Transaction":
            self.transaction(record, row)
        elif name == "StationEvent" and not record.cleared and record.code in {"CX011", "CX012"}:
            if row in self.tx:
                if not self.decided[row]:
                    self.decided[row] = True
                    self.count(record, True, record.code)
            elif row not in self.reports or record.time_ns - self.reports[row] > 30 * S:
                self.reports[row] = record.time_ns
                self.count(record, True, record.code)

    def transaction(self, record: Any, row: int) -> None:
        if self.ended.get(row) == record.tx_id:
            return
        if row not in self.tx or self.tx[row][0].tx_id != record.tx_id:
            self.tx[row], self.decided[row] = [], False
        said = self.tx[row]
        said.append(record)
        if not self.decided[row]:
            failed = self.verdict(said)
            if failed is not None:
                self.decided[row] = True
                self.count(record, failed, record.stopped_reason or record.trigger)
        if record.event_type == "Ended":
            self.ended[row] = record.tx_id
            del self.tx[row]

    def verdict(self, said: list[Any]) -> bool | None:
        last = said[-1]
        registers = [r.reg_mwh for r in said if r.reg_mwh is not None]
        if last.reg_mwh is not None and last.reg_mwh - registers[0] >= 20_000:
            return False
        if last.event_type != "Ended" or last.seq_no == 0:
            return None
        charged = [r.time_ns for r in said if r.charging_state == "Charging"]
        if last.reg_mwh is None and charged:
            return False
        if any(r.charging_state.startswith("Suspended") for r in said):
            return None
        if last.stopped_reason in _NO_FAULT or (charged and last.time_ns - charged[0] < 60 * S):
            return None
        return True

    def weighed(self, row: int) -> tuple[float, float]:
        """Return failed attempts and attempts of an EVSE, faded to its newest."""
        all_of = self.attempts.get(row, [])
        newest = max((t for t, _ in all_of), default=0)
        failed = starts = 0.0
        reached = 0
        for t, bad in all_of:
            reached = max(reached, t)
            weight = 0.5 ** ((newest - reached) / (2_592_000 * S))
            starts += weight
            failed += weight * bad
        return failed, starts

    def count(self, record: Any, failed: bool, reason: str) -> None:
        row = record.evse_row
        mine = self.attempts.setdefault(row, [])
        mine.append((record.time_ns, failed))
        row_of = [t for t, _ in mine[len(mine) - self.running(mine) :]]
        site = self.story.stations[record.station_row][0]
        peers = [
            e for e, (station, _) in enumerate(self.story.evses) if self.story.stations[station][0] == site
        ]
        others = [self.weighed(e) for e in peers if e != row]
        bad, starts = sum(f for f, _ in others), sum(n for _, n in others)
        rate = (bad + 1.0) / (starts + 20.0)
        own_bad, own = self.weighed(row)
        posterior = 0.0
        if own >= 4.0 and starts >= 20.0 and (own_bad >= 2.0 or row in self.open):
            posterior = _twice(
                (own_bad + 4.0 * rate, own - own_bad + 4.0 * (1.0 - rate)), (bad + 1.0, starts - bad + 19.0)
            )
        in_a_row = len(row_of)
        live = record.at.recv_ns - record.time_ns <= 900 * S
        kind = ""
        if failed and (in_a_row >= 3 or posterior > 0.99):
            if row not in self.open:
                kind, self.open[row] = "raise", (row_of[0], live)
            elif live and not self.open[row][1]:
                kind, self.open[row] = "raise", (self.open[row][0], live)
        elif row in self.open and in_a_row < 3 and posterior < 0.5:
            kind = "clear"
        if not kind:
            return
        start, was_live = self.open[row]
        evidence: dict[str, Any] = {
            "in_a_row": in_a_row, "failed": own_bad, "starts": own, "site_rate": rate, "posterior": posterior,
        }  # fmt: skip
        if kind == "raise":
            evidence["reason"] = reason
        else:
            del self.open[row]
        self.out.append(
            Expected(
                record.at.order, "start_failures", "evse", row, kind, "warning", was_live, start,
                record.time_ns, evidence,
            )
        )  # fmt: skip

    @staticmethod
    def running(attempts: list[tuple[int, bool]]) -> int:
        """Return how many attempts failed in a row up to now."""
        n = 0
        for _, failed in reversed(attempts):
            if not failed:
                break
            n += 1
        return n
