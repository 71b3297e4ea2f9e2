"""Twin of `pilot_jitter`: keeps the samples of each window and the variances of all of them."""

from __future__ import annotations

from math import sqrt
from statistics import variance

from .cable import flows
from .plain import Expected, Reading, S, Story


def emissions(story: Story) -> list[Expected]:
    """Return what the detector should emit with its defaults."""
    return [e for readings in story.by_evse() for e in _of_evse(readings)]


def _of_evse(readings: list[Reading]) -> list[Expected]:
    out: list[Expected] = []
    baseline, windows = 0.0, 0
    raised, live, start = False, False, 0
    window: list[tuple[float, bool]] = []
    number = -1
    for r in readings:
        v = r.values.get("x.CP.V")
        if v is None or v != v:
            continue
        if r.time_ns // (300 * S) != number:
            if len(window) >= 5:
                found = variance([sample for sample, _ in window])
                limit = max(0.08, 3 * sqrt(baseline))
                before, kind = baseline, ""
                if windows >= 6 and found >= limit**2:
                    if not raised:
                        raised, live, start, kind = True, window[-1][1], number * 300 * S, "raise"
                    elif window[-1][1] and not live:
                        live, kind = True, "raise"
                else:
                    windows = min(windows + 1, 288)
                    baseline += (found - baseline) / windows
                    if raised:
                        raised, kind = False, "clear"
                if kind:
                    end = (number + (kind == "raise")) * 300 * S
                    evidence = {
                        "std_v": sqrt(found), "limit_v": limit, "baseline_v": sqrt(before),
                        "samples": len(window), "windows": windows, "duration_s": (end - start) / S,
                    }  # fmt: skip
                    out.append(
                        Expected(
                            r.order, "pilot_jitter", "evse", r.about.row, kind, "warning",
                            live, start, end, evidence,
                        )
                    )  # fmt: skip
            window, number = [], r.time_ns // (300 * S)
        if 5.47 <= v <= 6.53 and flows(r):
            window.append((v, r.live))
    return out
