"""When a new shape is an alarm: the vigilances of `shapes`, their start, their changes, and the score."""

from __future__ import annotations

from typing import Any

import numpy as np

from models._kernel import kernel

from .shapes import (
    QUIET,
    SAMPLES,
    WARM_VIGILANCE,
    Nets,
    _best,
    _edge,
    _feature,
    _forget,
    _learn,
)

#: Score of an alarm: weights of the two vigilances and of the newest sample. Source: ARTime.
_STRICT_WEIGHT, _LOOSE_WEIGHT, _EDGE_WEIGHT = 0.35, 0.65, 1.5


@kernel
def _sort_by_likeness(nets: Nets, warm: int) -> int:
    """Order the features of the warm-up by ascending sum of cosine similarities to all; return how many.

    The sum of similarities to all is one product with the sum of all, each scaled to length one.
    """
    n, features, order, likes, whole = warm - SAMPLES + 1, nets.features, nets.order, nets.likes, nets.x
    whole[:16] = 0.0
    for a in range(SAMPLES - 1, warm):
        length = _length(features, a)
        for j in range(16):
            whole[j] += features[a, j] / length
    for a in range(n):
        like = np.float32(0.0)
        for j in range(16):
            like += features[a + SAMPLES - 1, j] * whole[j]
        like /= _length(features, a + SAMPLES - 1)
        at = a
        while at > 0 and likes[at - 1] > like:
            likes[at] = likes[at - 1]
            order[at] = order[at - 1]
            at -= 1
        likes[at] = like
        order[at] = a + SAMPLES - 1
    return n


@kernel
def _length(features: Any, a: int) -> Any:
    total = np.float32(1e-12)
    for j in range(16):
        total += features[a, j] * features[a, j]
    return np.sqrt(total)


@kernel
def _show(nets: Nets, tick: int) -> None:
    for j in range(nets.x.shape[0]):
        nets.x[j] = nets.features[tick, j]


@kernel
def _take_in(nets: Nets, i: int, tick: int) -> int:
    """Match and learn the feature at hand; return the best category, or -1 - it where the shape is new."""
    rec, memory = nets.rec[i], nets.match.shape[1]
    best = _best(nets, i)
    match = float(nets.fit[best])
    rec["match_sum"] += match
    rec["match_n"] += 1.0
    nets.match[i, tick % memory] = match
    short = rec["strict"] - match
    nets.short[i, tick % memory] = min(0.37, short) if short > 0.05 else -1.0
    new = match < rec["loose"]
    if new:
        rec["quiet"] = 0
    else:
        rec["quiet"] += 1
    return int(-1 - best if new else best)


@kernel
def begin(nets: Nets, i: int) -> None:
    """Set the range and the vigilances from the warm-up, then run the net over it."""
    rec, warm = nets.rec[i], nets.first.shape[1]
    more = nets.widen[i] * (rec["high"] - rec["low"])
    rec["low"] -= more
    rec["high"] += more
    for tick in range(warm):
        _feature(nets, i, tick, nets.first[i, tick])
        for j in range(nets.x.shape[0]):
            nets.features[tick, j] = nets.x[j]
    n = _sort_by_likeness(nets, warm)
    _forget(nets, i)
    total, count = 0.0, 0
    for z in range(n):
        _show(nets, nets.order[z])
        best = _best(nets, i)
        if z >= warm // 2:
            total += nets.fit[best]
            count += 1
        _learn(nets, i, z, best, WARM_VIGILANCE, WARM_VIGILANCE)
    rec["strict"] = rec["loose"] = min(0.999, total / max(count, 1))
    _forget(nets, i)
    for tick in range(SAMPLES - 1, warm):
        _show(nets, tick)
        found = _take_in(nets, i, tick)
        if found < 0:
            rec["masked"] = 1
        elif rec["quiet"] >= QUIET:
            rec["masked"] = 0
        _learn(nets, i, tick, found if found >= 0 else -1 - found, rec["strict"], rec["loose"])


@kernel
def _least_since(nets: Nets, i: int, since: int, tick: int) -> float:
    memory = nets.match.shape[1]
    least = 1.0
    for t in range(max(since, SAMPLES - 1), tick + 1):
        least = min(least, float(nets.match[i, t % memory]))
    return least


@kernel
def _vigilances(rec: Any, nets: Nets, i: int, tick: int) -> None:
    """Set both vigilances anew from what was seen of late."""
    memory = nets.match.shape[1]
    warm = memory - 1
    rec["changed"] = tick
    rec["masked"] = 1
    rec["strict"] = min(0.97, rec["match_sum"] / rec["match_n"])
    least = _least_since(nets, i, tick - warm // 2, tick)
    if rec["loose"] <= least:
        rec["loose"] += 0.19 * (least - rec["loose"])
    else:
        total, n = 0.0, 0
        if tick >= 2 * warm:
            for t in range(memory):
                if nets.short[i, t] >= 0.0:
                    total += nets.short[i, t]
                    n += 1
        lower = rec["loose"] - 0.5 * max(0.01, total / n if n > 0 else 0.0)
        if rec["least_n"] > 0.0:
            lower = max(lower, min(rec["loose"], rec["least_sum"] / rec["least_n"]))
        rec["loose"] = lower
    rec["loose"] = min(rec["loose"], rec["strict"])


@kernel
def _alarms(rec: Any, tick: int, match: float) -> bool:
    """Return whether a new shape is an alarm."""
    since = tick - rec["alarm"]
    if since > QUIET and rec["masked"] == 0:
        return True
    if rec["alarm"] < 0:
        return False
    return bool(match < (0.9 if since <= QUIET else 0.7) * rec["alarm_match"])


@kernel
def sample_step(nets: Nets, i: int, sample: float, low: float, high: float) -> float:
    """Take in one sample of net i; return its score, 0 when it is no alarm.

    Parameters
    ----------
    sample : float
        The value that stands for the rows of the sample, finite.
    low, high : float
        Least and greatest value of these rows.
    """
    rec, warm = nets.rec[i], nets.first.shape[1]
    tick = rec["tick"]
    rec["tick"] = tick + 1
    if tick < warm:
        nets.first[i, tick] = sample
        rec["low"], rec["high"] = min(rec["low"], low), max(rec["high"], high)
        if tick == warm - 1:
            begin(nets, i)
        return 0.0
    _feature(nets, i, tick, sample)
    strict, loose = rec["strict"], rec["loose"]
    found = _take_in(nets, i, tick)
    best = found if found >= 0 else -1 - found
    match = float(nets.fit[best])
    edge = _edge(nets, i, best)
    score = 0.0
    if found < 0:
        if _alarms(rec, tick, match):
            if rec["pending"] != 0:
                rec["least_sum"] += _least_since(nets, i, rec["alarm"], tick)
                rec["least_n"] += 1.0
            rec["alarm"], rec["alarm_match"], rec["pending"] = tick, match, 1
            m = min(match, 0.999)
            gap = _STRICT_WEIGHT * (strict - m) + _LOOSE_WEIGHT * (loose - m)
            score = max(0.0, min(1.0, gap / (1.0 - m) + _EDGE_WEIGHT * (1.0 - edge)))
        rec["masked"] = 1
    elif rec["quiet"] >= QUIET:
        rec["masked"] = 0
    _learn(nets, i, tick, best, strict, loose)
    due = rec["pending"] != 0 and tick - rec["alarm"] == QUIET
    if due:
        rec["pending"] = 0
        rec["least_sum"] += _least_since(nets, i, rec["alarm"], tick)
        rec["least_n"] += 1.0
    if due or tick - rec["changed"] >= warm // 2:
        _vigilances(rec, nets, i, tick)
    return score


@kernel
def ensemble_step(nets: Nets, start: int, n: int, sample: float, low: float, high: float) -> float:
    """Take in one sample by nets start .. start + n - 1; return their mean score, 0 without an alarm.

    Nets differ in how far they widened the range. An alarm of one counts for three samples, so that those
    that see the same thing a sample or two apart agree.
    """
    total, fired = 0.0, False
    for i in range(start, start + n):
        score = sample_step(nets, i, sample, low, high)
        rec = nets.rec[i]
        total += max(score, max(rec["held"], rec["held_before"]))
        rec["held_before"], rec["held"] = rec["held"], score
        fired = fired or score > 0.0
    return total / n if fired else 0.0
