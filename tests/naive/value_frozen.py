"""Twin of `value_frozen`: each channel's run is kept as a list of (second, value, load)."""

from __future__ import annotations

import struct

from .plain import Expected, Reading, S, Story

VOLTS = ["Voltage@L1-N", "Voltage@L2-N", "Voltage@L3-N", "Voltage"]
AMPS = ["Current.Import@L1", "Current.Import@L2", "Current.Import@L3", "Current.Import"]
WARM = ["Temperature/Cable", "Temperature/Outlet", "Temperature/Body"]


def f32(value: float) -> float:
    """Return the value as a single."""
    single: float = struct.unpack("f", struct.pack("f", value))[0]
    return single


def _value(r: Reading, name: str) -> float | None:
    value = r.values.get(name)
    return None if value is None or value != value else value


def _names(r: Reading) -> list[str]:
    volts = [f"{name}/Inlet" for name in VOLTS] if r.about.dc else list(VOLTS)
    if r.about.phases != 1:
        volts.pop()
    return [*volts, *AMPS, "Power.Active.Import", *WARM]


def _amps(r: Reading) -> float | None:
    phased = [a for name in AMPS[:3] if (a := _value(r, name)) is not None]
    return max(phased) if phased else _value(r, AMPS[3])


def emissions(story: Story) -> list[Expected]:
    """Return what the detector should emit with its defaults."""
    return [e for readings in story.by_evse() for e in _Evse().run(readings)]


class _Evse:
    def __init__(self) -> None:
        self.runs: dict[str, list[tuple[int, float, float]]] = {}
        self.frozen: list[str] = []
        self.warm: float | None = None
        self.warm_s = self.last_s = 0
        self.raised: tuple[int, bool, int] | None = None  # start, live, hold
        self.good: int | None = None
        self.out: list[Expected] = []

    def run(self, readings: list[Reading]) -> list[Expected]:
        """Return what all readings of an EVSE cause."""
        for r in readings:
            self.take(r)
        return self.out

    def take(self, r: Reading) -> None:
        """Take in one reading."""
        amps, watts, t = _amps(r), _value(r, "Power.Active.Import"), r.time_ns // S
        if amps is None and watts is None:
            return
        if t - self.last_s > 1800:
            self.runs, self.frozen, self.warm = {}, [], None
        self.last_s = t
        if amps is not None:
            square = amps * amps
            share = (t - self.warm_s) / (t - self.warm_s + 300.0)
            self.warm = f32(square if self.warm is None else self.warm + (square - self.warm) * share)
            self.warm_s = t
        fresh = [name for name in _names(r) if self.channel(r, name, amps, watts, t)]
        if not self.frozen:
            if self.raised is not None:
                self.good = t if self.good is None else self.good
                start, live, hold = self.raised
                if t - self.good >= hold:
                    self.emit(r, "clear", live, start, self.good, {})
                    self.raised = None
            return
        self.good = None
        if self.raised is None:
            name = fresh[0]
            self.raised = (self.runs[name][0][0], r.live, 3600 if name in WARM else 1800)
        elif r.live and not self.raised[1]:
            name = (fresh or [n for n in _names(r) if n in self.frozen])[0]
            self.raised = (self.raised[0], True, self.raised[2])
        else:
            return
        run = self.runs[name]
        loads = [load for _, _, load in run]
        evidence = {
            "channel": name,
            "value": run[0][1],
            "frozen_s": t - run[0][0],
            "samples": len(run),
            "load_min": min(loads),
            "load_max": max(loads),
        }
        self.emit(r, "raise", self.raised[1], self.raised[0], t, evidence)

    def channel(self, r: Reading, name: str, amps: float | None, watts: float | None, t: int) -> bool:
        """Take in a channel's value; return whether it froze just now."""
        value, load = _value(r, name), watts if name in AMPS else amps
        if value is None or load is None:
            return False
        if name in WARM:
            assert self.warm is not None
            load = self.warm
        run = self.runs.setdefault(name, [])
        value = f32(value)
        if (run and run[0][1] != value) or value == 0:
            run.clear()
            if name in self.frozen:
                self.frozen.remove(name)
        if value == 0:
            return False
        run.append((t, value, f32(load)))
        if name in self.frozen or len(run) < 20 or t - run[0][0] < (3600 if name in WARM else 1800):
            return False
        low, high = min(load for _, _, load in run), max(load for _, _, load in run)
        moved = high - low > (0.5 if name in WARM else 0.2) * high
        if name in WARM:
            least = (0.8 if name == WARM[2] else 0.4) * 32.0
            moved = moved and high - low >= least * least
        if moved:
            self.frozen.append(name)
        return moved

    def emit(
        self, r: Reading, kind: str, live: bool, start: int, end: int, evidence: dict[str, object]
    ) -> None:
        """Note an emission."""
        self.out.append(
            Expected(
                r.order,
                "value_frozen",
                "evse",
                r.about.row,
                kind,
                "warning",
                live,
                start * S,
                end * S,
                evidence,
            )
        )
