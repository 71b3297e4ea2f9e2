"""Twin of `voltage_dip`."""

from __future__ import annotations

from .plain import Expected, Reading, S, Story, grid_voltages


def emissions(story: Story) -> list[Expected]:
    """Return what the detector should emit with its defaults."""
    return [e for readings in story.by_evse() for e in _of_evse(readings)]


def _of_evse(readings: list[Reading]) -> list[Expected]:
    out: list[Expected] = []
    low: list[tuple[int, float, int]] = []  # time, voltage, phase
    raised, live = False, False
    start = end = 0
    for r in readings:
        about = r.about
        u_n = about.u_n_v if about.declared else 208.0
        volts = grid_voltages(r)
        if not about.declared:
            volts = {p: v for p, v in volts.items() if v >= 150.0}
        if about.sample_s is None or about.sample_s > 20 or not any(v >= 0.05 * u_n for v in volts.values()):
            continue
        volts = {p: v for p, v in volts.items() if v >= 0.0}
        lowest, phase = min((v, p) for p, v in volts.items())
        if lowest < 0.90 * u_n:
            low.append((r.time_ns, lowest, phase))
            continue
        raising = False
        if low and r.time_ns - low[0][0] <= 60 * S:
            end = r.time_ns
            if not raised or (r.live and not live):
                raised, live, start, raising = True, r.live, low[0][0], True
                least, _, at_phase = min((v, t, p) for t, v, p in low)
                evidence = {
                    "voltage_min_v": least,
                    "u_n_v": u_n,
                    "limit_v": 0.90 * u_n,
                    "duration_s": (end - start) / S,
                    "phase": at_phase,
                }
                out.append(
                    Expected(
                        r.order,
                        "voltage_dip",
                        "evse",
                        about.row,
                        "raise",
                        "warning",
                        live,
                        start,
                        end,
                        evidence,
                    )
                )
        low = []
        if raised and not raising and r.time_ns - end >= 60 * S:
            raised = False
            out.append(
                Expected(r.order, "voltage_dip", "evse", about.row, "clear", "warning", live, start, end, {})
            )
    return out
