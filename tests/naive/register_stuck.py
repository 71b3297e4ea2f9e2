"""Twin of `register_stuck`."""

from __future__ import annotations

import math

from .plain import Expected, Reading, S, Story


def emissions(story: Story) -> list[Expected]:
    """Return what the detector should emit with its defaults."""
    return [e for readings in story.by_evse() for e in _of_evse(readings)]


def _power(r: Reading) -> float | None:
    total = r.values.get("Power.Active.Import")
    if total is not None and total == total:
        return max(total, 0.0)
    phases = [w for p in (1, 2, 3) if (w := r.values.get(f"Power.Active.Import@L{p}")) is not None and w == w]
    return max(math.fsum(phases), 0.0) if phases else None


def _evidence(r: Reading, base: Reading) -> dict[str, float]:
    return {
        "register_wh": (base.reg_mwh or 0) / 1000,
        "resolution_wh": r.about.resolution_mwh / 1000,
        "flat_s": (r.time_ns - base.time_ns) / S,
    }


def _of_evse(readings: list[Reading]) -> list[Expected]:
    out: list[Expected] = []
    steps: list[tuple[float, float]] = []  # energy and doubt of each trapezoid since the base, Wh
    power: tuple[int, float] | None = None
    base: Reading | None = None
    beyond = 0
    raised, live = False, False
    start = 0
    good: int | None = None
    for r in readings:
        w = _power(r)
        if w is not None:
            sample_s = r.about.sample_s
            gap = 1800 * S if sample_s is None else max(60 * S, round(3 * sample_s * S))
            if power is not None and r.time_ns - power[0] <= gap:
                half_h = (r.time_ns - power[0]) / S / 7200
                steps.append(((w + power[1]) * half_h, abs(w - power[1]) * half_h))
            power = (r.time_ns, w)
        if r.reg_mwh is None:
            continue
        moved = True
        if base is not None and base.reg_mwh is not None and base.about.generation == r.about.generation:
            change = r.reg_mwh - base.reg_mwh
            moved = change > 0 or change < -2 * r.about.resolution_mwh
        if moved or base is None:
            base, steps, beyond = r, [], 0
            if raised and good is None:
                good = r.time_ns
        energy, doubt = math.fsum(s[0] for s in steps), math.fsum(s[1] for s in steps)
        limit = max(2 * r.about.resolution_mwh / 1000, 50.0, doubt)
        if energy > limit + 1e-6:
            beyond += 1
            if beyond < 2 or r.time_ns - base.time_ns < 60 * S:
                continue
            good = None
            if not raised or (r.live and not live):
                if not raised:
                    start = base.time_ns
                raised, live = True, r.live
                evidence = _evidence(r, base) | {"energy_wh": energy, "limit_wh": limit}
                evidence["power_w"] = power[1] if power else 0.0
                out.append(
                    Expected(
                        r.order, "register_stuck", "evse", r.about.row, "raise", "warning",
                        live, start, r.time_ns, evidence,
                    )
                )  # fmt: skip
        elif raised and good is not None and r.time_ns - good >= 60 * S:
            raised = False
            out.append(
                Expected(
                    r.order, "register_stuck", "evse", r.about.row, "clear", "warning", live, start, good, {}
                )
            )
            good = None
    return out
