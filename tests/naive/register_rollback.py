"""Twin of `register_rollback`."""

from __future__ import annotations

from .plain import Expected, Reading, S, Story


def emissions(story: Story) -> list[Expected]:
    """Return what the detector should emit with its defaults."""
    return [e for readings in story.by_evse() for e in _of_evse(readings)]


def _rolled_over(high: int, reg: int, r: Reading, hours: float) -> bool:
    about = r.about
    if not about.modulus_mwh or high > about.modulus_mwh or reg < 0:
        return False
    implied_wh = (about.modulus_mwh - high + reg) / 1000
    allowed_wh = 1.5 * (about.p_max_w or 1_000_000.0) * hours + 2 * about.resolution_mwh / 1000
    return implied_wh <= allowed_wh


def _of_evse(readings: list[Reading]) -> list[Expected]:
    out: list[Expected] = []
    registers: list[int] = []  # since the last fall found, or the last meter
    last: Reading | None = None
    raised, live = False, False
    start = fell = 0
    for r in readings:
        if r.reg_mwh is None:
            continue
        if last is not None and last.about.generation != r.about.generation:
            registers = []
        high = max(registers, default=r.reg_mwh)
        fall = high - r.reg_mwh
        if last is not None and fall > 2 * r.about.resolution_mwh:
            registers = []
            if not _rolled_over(high, r.reg_mwh, r, (r.time_ns - last.time_ns) / S / 3600):
                fell = r.time_ns
                if not raised or (r.live and not live):
                    raised, live, start = True, r.live, last.time_ns
                    evidence = {
                        "fall_wh": fall / 1000,
                        "register_before_wh": high / 1000,
                        "register_after_wh": r.reg_mwh / 1000,
                        "resolution_wh": r.about.resolution_mwh / 1000,
                    }
                    out.append(
                        Expected(
                            r.order, "register_rollback", "evse", r.about.row, "raise", "warning",
                            live, start, fell, evidence,
                        )
                    )  # fmt: skip
        registers.append(r.reg_mwh)
        last = r
        if raised and r.time_ns - fell >= 60 * S:
            raised = False
            out.append(
                Expected(
                    r.order,
                    "register_rollback",
                    "evse",
                    r.about.row,
                    "clear",
                    "warning",
                    live,
                    start,
                    fell,
                    {},
                )
            )
    return out
