"""Twin of `frequency_deviation`: every EVSE's windows are kept, the site is counted anew at each vote."""

from __future__ import annotations

import math

from .plain import Expected, Reading, S, Story

TEN = 600 * S
#: Reading, vote, live, start, end, evidence.
Vote = tuple[Reading, str, bool, int, int, dict[str, float]]


def _nominal(r: Reading, hertz: float) -> float:
    if r.about.declared and 220 <= r.about.u_n_v <= 230:
        return 50.0
    if r.about.declared and (100 <= r.about.u_n_v <= 127 or r.about.u_n_v in {208, 277, 347, 480}):
        return 60.0
    return 60.0 if hertz > 55 else 50.0


def _votes(readings: list[Reading]) -> list[Vote]:
    out: list[Vote] = []
    window: list[tuple[Reading, float]] = []
    index = -1
    nominal_before = 0.0
    off = told = False
    far: list[int] = []
    for r in readings:
        hertz = r.values.get("Frequency")
        if hertz is None or not hertz >= 10:
            continue
        nominal = _nominal(r, hertz)
        if index < 0:
            first = {"frequency_hz": hertz, "nominal_hz": nominal, "limit_hz": nominal + 0.5, "window_s": 0}
            out.append((r, "joins", r.live, r.time_ns, r.time_ns, first))
        if r.time_ns // TEN != index and len(window) >= 3:
            begin = index * TEN
            mean = math.fsum(hz - nominal_before for _, hz in window) / len(window)
            live = window[-1][0].live and r.time_ns - begin - TEN <= 900 * S
            evidence = {
                "frequency_hz": nominal_before + mean,
                "nominal_hz": nominal_before,
                "limit_hz": nominal_before + (0.5 if mean > 0 else -0.5),
                "window_s": 600,
            }
            if abs(mean) > 0.5 + 1e-9:
                off = True
                out.append((r, "yes", live, begin, begin + TEN, evidence))
            elif off and not told:
                off = False
                out.append((r, "no", live, begin, begin, evidence))
        if r.time_ns // TEN != index or nominal != nominal_before:
            index, nominal_before, window, told = r.time_ns // TEN, nominal, [], False
        window.append((r, hertz))
        if nominal - 3 <= hertz <= nominal + 2:
            far = []
            continue
        far.append(r.time_ns)
        if len(far) >= 2 and not told:
            off = told = True
            evidence = {
                "frequency_hz": hertz,
                "nominal_hz": nominal,
                "limit_hz": nominal + (2 if hertz > nominal else -3),
                "window_s": 0,
            }
            out.append((r, "yes", r.live, far[0], r.time_ns, evidence))
    return out


def emissions(story: Story) -> list[Expected]:
    """Return what the detector should emit with its defaults."""
    votes = [vote for readings in story.by_evse() for vote in _votes(readings)]
    # stable: votes of one EVSE stay in order; at equal times a yes comes before a no by kind
    rank = {"yes": 1, "joins": 2, "no": 3}
    votes.sort(key=lambda v: (v[0].order, v[0].effect_ns, v[0].about.row, v[4], rank[v[1]]))
    out: list[Expected] = []
    for site in range(len(story.sites)):
        mine = [v for v in votes if story.nodes[v[0].about.node][0] == site]
        out += _of_site(site, mine)
    return out


def _of_site(site: int, votes: list[Vote]) -> list[Expected]:
    out: list[Expected] = []
    voters: set[int] = set()
    yes: dict[int, tuple[int, int]] = {}
    raised: tuple[int, bool] | None = None
    end = 0
    for r, vote, live, start_ns, end_ns, evidence in votes:
        row = r.about.row
        voters.add(row)
        if vote == "yes":
            yes[row] = (yes[row][0] if row in yes else start_ns, end_ns)
        elif vote == "no":
            yes.pop(row, None)
        kind = ""
        if len(yes) > len(voters) / 2:
            if raised is None:
                raised, kind, end = (min(s for s, _ in yes.values()), live), "raise", 0
            elif live and not raised[1] and vote == "yes":
                raised, kind = (raised[0], True), "raise"
            end = max(end, *(e for _, e in yes.values()))
        elif raised is not None:
            kind = "clear"
        if kind:
            assert raised is not None
            counts = {"evses_off": len(yes), "evses": len(voters)}
            out.append(
                Expected(
                    r.order, "frequency_deviation", "site", site, kind, "warning", raised[1], raised[0], end,
                    evidence | counts,
                )
            )  # fmt: skip
        if kind == "clear":
            raised = None
    return out
