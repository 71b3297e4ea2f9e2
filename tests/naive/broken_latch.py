"""Twin of `broken_latch`: at each latched sample, reads the past backwards to the last open socket."""

from __future__ import annotations

from .plain import Expected, Reading, S, Story


def emissions(story: Story) -> list[Expected]:
    """Return what the detector should emit with its defaults."""
    return [e for readings in story.by_evse() for e in _of_evse(readings)]


def _plug_in(seen: list[tuple[int, float]]) -> str:
    """Return "step", "no step" or "" for no plug-in at the last sample."""
    t, volts = seen[-1]
    if not 1.23 <= volts <= 1.82:
        return ""
    step = False
    for before, value in reversed(seen[:-1]):
        if t - before > 2.5 * S:
            return ""
        t = before
        if value > 3.16:
            return "step" if step else "no step"
        if 1.23 <= value <= 1.82:
            return ""
        step = step or value >= 2.38
    return ""


def _of_evse(readings: list[Reading]) -> list[Expected]:
    out: list[Expected] = []
    seen: list[tuple[int, float]] = []
    missed: list[int] = []
    raised, live = False, False
    for r in readings:
        about, volts = r.about, r.values.get("x.PP.V")
        type_1 = about.declared and about.conn_type in {"IEC_62196_T1", "IEC_62196_T1_COMBO"}
        if volts is None or volts != volts or not type_1:
            continue
        if about.sample_s is None or about.sample_s > 1.0:
            continue
        seen.append((r.time_ns, volts))
        found = _plug_in(seen)
        kind = ""
        if found == "no step":
            missed.append(r.time_ns)
            if len(missed) >= 3 and (not raised or (r.live and not live)):
                kind, raised, live = "raise", True, r.live
        elif found == "step" and raised:
            kind, raised = "clear", False
        if kind:
            evidence: dict[str, float] = {"plug_ins": len(missed)}
            if kind == "raise":
                evidence |= {"proximity_v": volts, "step_low_v": 2.38, "step_high_v": 3.16}
            out.append(
                Expected(
                    r.order, "broken_latch", "evse", about.row, kind, "warning", live, missed[0],
                    r.time_ns, evidence,
                )
            )  # fmt: skip
        if found == "step":
            missed = []
    return out
