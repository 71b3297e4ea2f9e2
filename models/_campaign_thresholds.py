"""When a wave is done, when too much of it has failed, and whom the waves would take in."""

from __future__ import annotations

import math

import numpy as np

from ._campaign_members import Members
from ._campaign_plan import Plan
from ._campaign_states import FAILURES, Member


def too_many_failures(plan: Plan, members: Members, wave: int, from_ms: int) -> str:
    """Return why a campaign must pause, "" if it need not; what ended before `from_ms` does not count."""
    states = members.states
    n = len(states)
    counts = members.since_ms[:n] >= from_ms
    failed = members.chosen(*FAILURES) & counts
    ended = failed | (members.chosen(Member.SUCCEEDED) & counts)
    for where, mask in (("wave", members.wave[:n] == wave), ("campaign", np.True_)):
        bad, tried = int((failed & mask).sum()), int((ended & mask).sum())
        if tried >= plan.min_sample and bad > plan.error * tried:
            return (
                f"{bad} of {tried} attempts of the {where} failed, more than {plan.error:.1%} "
                f"(at least {plan.min_sample} tried)"
            )
    return ""


def wave_done(plan: Plan, members: Members, wave: int, waived: int) -> tuple[bool | None, str]:
    """Return whether a wave met its success threshold, None while that is open, and words for it."""
    mask = members.wave[: len(members.states)] == wave
    mask &= ~members.chosen(Member.SKIPPED, Member.CANCELLED)
    size = int(mask.sum())
    good = int((mask & members.chosen(Member.SUCCEEDED)).sum())
    text = f"{good} of {size} stations of wave {wave + 1} run {plan.image.version}"
    if good >= math.ceil(plan.success * size - 1e-9) or waived == wave:
        return True, text
    if (mask & ~members.ended()).any():
        return None, ""
    return False, f"{text}, {plan.success:.1%} wanted"


def chosen_words(plan: Plan, members: Members) -> str:
    """Return in words whom a campaign would update, and in which waves."""
    counts = members.counts()
    waiting, out = counts.get("waiting", 0), counts.get("skipped", 0)
    sizes = plan.wave_sizes(waiting)
    waves = ", ".join(f"{size:,}" for size in sizes[:8]) + (", …" if len(sizes) > 8 else "")
    told = f"{waiting:,} stations would be updated" + (f" in waves of {waves}" if len(sizes) > 1 else "")
    return told + (f", {out:,} are left out" if out else "")
