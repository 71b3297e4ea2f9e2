"""Twin of `power_mismatch`."""

from __future__ import annotations

from .lasting import Lasting
from .plain import Expected, Reading, S, Story


def _value(r: Reading, name: str) -> float | None:
    value = r.values.get(name)
    return None if value is None or value != value else value


def _power(r: Reading) -> float | None:
    total = _value(r, "Power.Active.Import")
    if total is not None:
        return total
    parts = [w for p in (1, 2, 3) if (w := _value(r, f"Power.Active.Import@L{p}")) is not None]
    return sum(parts) if parts else None


def _apparent(r: Reading) -> tuple[float, float] | None:
    """Return (volt-amperes, greatest current)."""
    plain_a, plain_v = _value(r, "Current.Import"), _value(r, "Voltage")
    if r.about.dc:
        return None if plain_a is None or plain_v is None else (plain_a * plain_v, plain_a)
    volts = {p: v for p in (1, 2, 3) if (v := _value(r, f"Voltage@L{p}-N")) is not None}
    amps = {p: a for p in (1, 2, 3) if (a := _value(r, f"Current.Import@L{p}")) is not None}
    if volts:
        mean = sum(volts.values()) / len(volts)
    elif r.about.phases == 1 and plain_v is not None:
        mean = plain_v
    else:
        mean = r.about.u_n_v
    if amps:
        return sum(a * volts.get(p, mean) for p, a in amps.items()), max(amps.values())
    if r.about.phases == 1 and plain_a is not None:
        return plain_a * mean, plain_a
    return None


def emissions(story: Story) -> list[Expected]:
    """Return what the detector should emit with its defaults."""
    return [e for readings in story.by_evse() for e in _of_evse(readings)]


def _of_evse(readings: list[Reading]) -> list[Expected]:
    out: list[Expected] = []
    watch = Lasting(600 * S, 2, 600 * S, 1800 * S)
    factors: list[tuple[int, float]] = []
    for r in readings:
        factor = _value(r, "Power.Factor")
        if factor is not None and 0 < factor <= 1:
            factors.append((r.time_ns, factor))
        power, apparent = _power(r), _apparent(r)
        if power is None or apparent is None:
            continue
        va, amps = apparent
        if not (amps > (10 if r.about.dc else 6) and va > 0):
            continue
        if r.about.p_max_w is not None and max(power, va) <= 0.10 * r.about.p_max_w:
            continue
        low, high = 0.90 * va, va
        if r.about.dc:
            low = va
        elif factors and r.time_ns - factors[-1][0] <= 900 * S:
            low = high = va * factors[-1][1]
        expected = low if power < low else high if power > high else power
        deviation = power / expected - 1 if expected != power else 0.0
        kind = watch.add(r.time_ns, int(abs(deviation) > 0.08), r.live)
        if not kind:
            continue
        end = watch.end_ns if kind == "clear" else r.time_ns
        evidence = {
            "power_w": power,
            "expected_w": expected,
            "deviation_percent": 100 * deviation,
            "limit_percent": 8.0,
            "current_a": amps,
            "duration_s": (end - watch.start_ns) / S,
        }
        out.append(
            Expected(
                r.order, "power_mismatch", "evse", r.about.row, kind, "warning",
                watch.live, watch.start_ns, end, evidence,
            )
        )  # fmt: skip
    return out
