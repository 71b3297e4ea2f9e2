"""Twin of `pilot_out_of_band`: keeps every sample of state C and every begin of an episode."""

from __future__ import annotations

from .cable import flows
from .plain import Expected, Reading, S, Story


def emissions(story: Story) -> list[Expected]:
    """Return what the detector should emit with its defaults."""
    return [e for readings in story.by_evse() for e in _of_evse(readings)]


def _of_evse(readings: list[Reading]) -> list[Expected]:
    out: list[Expected] = []
    run: list[int] = []  # times of the samples outside the band in a row
    begins: list[int] = []  # of episodes since the last finding
    good: list[int] = []
    raised, live, start, episodes = False, False, 0, 0
    for r in readings:
        v = r.values.get("x.CP.V")
        if v is None or v != v or 2.47 <= v <= 3.53 or not flows(r):
            continue
        t, kind = r.time_ns, ""
        if 5.47 <= v <= 6.53:
            run = []
            good.append(t)
            if raised and t - good[0] >= 600 * S:
                raised, begins, kind = False, [], "clear"
        else:
            good = []
            if not raised:
                if not run or t - run[-1] > 1800 * S:
                    run = []
                    begins.append(t)
                    if len(begins) >= 3 and t - begins[-3] <= 600 * S:
                        raised, live, start, episodes, kind = True, r.live, begins[-3], 3, "raise"
                run.append(t)
                if not raised and len(run) >= 2:
                    raised, live, start, episodes, kind = True, r.live, run[0], 1, "raise"
            elif r.live and not live:
                live, kind = True, "raise"
        if kind:
            end = good[0] if kind == "clear" else t
            evidence: dict[str, float] = {"duration_s": (end - start) / S}
            if kind == "raise":
                evidence |= {"pilot_v": v, "limit_v": 5.47 if v < 6 else 6.53, "episodes": episodes}
            out.append(
                Expected(
                    r.order, "pilot_out_of_band", "evse", r.about.row, kind, "warning",
                    live, start, end, evidence,
                )
            )  # fmt: skip
        if kind == "clear":
            good = []
    return out
