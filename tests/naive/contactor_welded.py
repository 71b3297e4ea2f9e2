"""Twin of `contactor_welded`: looks back over all readings for the last transaction at this plug."""

from __future__ import annotations

from .lasting import Lasting
from .plain import Expected, Reading, S, Story

_IN_TRANSACTION, _CHARGING, _SUSPENDED, _OCCUPIED, _KNOWN = 1, 2, 4 + 8, 16, 128


def emissions(story: Story) -> list[Expected]:
    """Return what the detector should emit with its defaults."""
    return [e for readings in story.by_evse() for e in _of_evse(readings)]


def _given(reading: Reading, name: str) -> float | None:
    value = reading.values.get(name)
    return None if value is None or value != value else value


def _output(r: Reading) -> float | None:
    if not r.about.dc or not r.about.declared:
        return _given(r, "Power.Active.Import")
    found = [v for name in ("x.Output.V", "Voltage") if (v := _given(r, name)) is not None]
    return max(found) if found else None


def _after_a_transaction(seen: list[int]) -> bool:
    """Return whether a transaction came before, at a plug that was not pulled since."""
    for bits in reversed(seen):
        if bits & _IN_TRANSACTION:
            return True
        if not bits & _OCCUPIED:
            return False
    return False


def _of_evse(readings: list[Reading]) -> list[Expected]:
    out: list[Expected] = []
    watch = Lasting(60 * S, 2, 60 * S, 1800 * S)
    seen: list[int] = []
    for r in readings:
        found = _output(r)
        if found is None:
            continue
        bits, pilot = r.state, _given(r, "x.CP.V")
        quiet = bits & _KNOWN and not bits & (_IN_TRANSACTION | _CHARGING | _SUSPENDED)
        sure = not bits & _OCCUPIED or _after_a_transaction(seen) or (pilot is not None and pilot > 7.5)
        seen.append(bits)
        limit = 60.0 if r.about.dc else 100.0
        kind = watch.add(r.time_ns, int(bool(quiet and sure and found > limit)), r.live)
        if not kind:
            continue
        end = watch.end_ns if kind == "clear" else r.time_ns
        evidence: dict[str, float] = {"duration_s": (end - watch.start_ns) / S}
        if kind != "clear":
            evidence |= {"output_v" if r.about.dc else "power_w": found, "limit": limit}
            evidence["plugged"] = float(bool(bits & _OCCUPIED))
        out.append(
            Expected(
                r.order, "contactor_welded", "evse", r.about.row, kind, "critical",
                watch.live, watch.start_ns, end, evidence,
            )
        )  # fmt: skip
    return out
