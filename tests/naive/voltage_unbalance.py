"""Twin of `voltage_unbalance`: all samples of a window are kept, phasors are complex numbers."""

from __future__ import annotations

import cmath
import math

from .plain import Expected, Reading, S, Story, grid_voltages

TEN = 600 * S
TURN = cmath.exp(2j * math.pi / 3)


def _volts(r: Reading) -> list[float] | None:
    if r.about.phases not in (0, 3):
        return None
    found = grid_voltages(r)
    if len(found) < 3:
        return None
    volts = [found[1], found[2], found[3]]
    least = 0.05 * r.about.u_n_v
    if max(volts) < least or min(volts) < (0.0 if r.about.phases == 3 else least):
        return None
    return volts


def emissions(story: Story) -> list[Expected]:
    """Return what the detector should emit with its defaults."""
    return [e for readings in story.by_evse() for e in _of_evse(readings)]


def _of_evse(readings: list[Reading]) -> list[Expected]:
    out: list[Expected] = []
    window: list[tuple[Reading, list[float]]] = []
    raised: tuple[int, bool] | None = None  # start, live
    bad_end = 0
    for r in readings:
        volts = _volts(r)
        if volts is None:
            continue
        if window and r.time_ns // TEN != window[0][0].time_ns // TEN:
            if len(window) >= 3:
                begin = window[0][0].time_ns // TEN * TEN
                mean = [math.fsum(v[p] for _, v in window) / len(window) for p in range(3)]
                positive = abs(mean[0] + mean[1] + mean[2])
                negative = abs(mean[0] + mean[1] * TURN**2 + mean[2] * TURN)
                kind = ""
                if negative / positive > 0.02 + 1e-9:
                    bad_end = begin + TEN
                    live = window[-1][0].live and r.time_ns - bad_end <= 900 * S
                    if raised is None:
                        raised, kind = (begin, live), "raise"
                    elif live and not raised[1]:
                        raised, kind = (raised[0], True), "raise"
                elif raised is not None:
                    kind = "clear"
                if kind:
                    assert raised is not None
                    evidence = {
                        "unbalance_percent": 100 * negative / positive,
                        "limit_percent": 2.0,
                        "voltage_l1_v": mean[0],
                        "voltage_l2_v": mean[1],
                        "voltage_l3_v": mean[2],
                        "samples": len(window),
                    }
                    out.append(
                        Expected(
                            r.order, "voltage_unbalance", "evse", r.about.row, kind, "warning", raised[1],
                            raised[0], bad_end, evidence,
                        )
                    )  # fmt: skip
                    if kind == "clear":
                        raised = None
            window = []
        window.append((r, volts))
    return out
