"""Who gets how much: admission by turn, then water filling, under the limits of panels, phases and demand."""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np

from ._load_fill import water_fill
from ._load_points import BOOL, Points
from .batch import F64, I64

#: Why a limit is what it is; a row's code is its place here. Append only.
REASONS: Final = (
    "free",  # nothing is being charged
    "full",  # all the EVSE can give
    "vehicle",  # all the vehicle can use
    "site",  # its share of the site's, a panel's or a phase's limit
    "demand",  # its share of what the quarter hour still allows
    "turn",  # waits for its turn: not everyone fits
    "off_peak",  # waits for a cheaper quarter
    "operator",  # an operator's limit
    "idle",  # has finished: what it may use if it wakes
    "fallback",  # lost or silent: what the station holds by itself
)
FREE, FULL, VEHICLE, SITE, DEMAND, TURN, OFF_PEAK, OPERATOR, IDLE, FALLBACK = range(len(REASONS))
#: Classes from here on come after everyone else: vehicles that have finished, or have what was wanted.
LAST: Final = 1000
#: Who needs more than this share of its power until its departure comes first.
_HURRY: Final = 0.5
_KEEPS: Final = 0.15
#: Turns of others that somebody waits at most, whatever hurry they are in.
_PATIENCE: Final = 2
#: A vehicle with a departure that has had less than this share of its energy may have its turn all the same.
_NEXT_TO_NOTHING: Final = 0.2
#: Those with a departure are given this many times what they need on average while there is room: who comes
#: later will need some of what is left for them now.
_AHEAD: Final = 1.5
#: A full limit lowers the share of its power that a vehicle needs by this much: the smaller, the more
#: strictly the most pressed come first.
_RELIEF: Final = 0.25
#: Where a phase cannot serve all in time, those who use phases with room beside it count as pressed by up to
#: this share more than those who use it alone: of a scarce ampere they make more energy.
_SCARCE: Final = 1.0
#: Not while the quarter hour allows less than the phases, wholly from this share less on: energy is the same
#: then whoever makes it, and the others may make more of the phase when only phases bind.
_QUARTER_BINDS: Final = 0.05
#: A phase is scarce from this share of its room on that is needed on average, and wholly so this much above.
_SCARCE_FROM, _SCARCE_OVER = 0.9, 0.2
#: Until it was seen to take more, a vehicle is expected to take this at most, W: the usual on-board charger.
_USUAL_W: Final = 11_000.0
_EPS: Final = 1e-6
#: Places of the sort key of turns: who has it, who waits, who has had it long enough.
_HAS, _WAITS, _HAD = 0, 1, 2


class Limits(NamedTuple):
    """What binds a decision.

    Attributes
    ----------
    inline : ndarray, shape (panels, n)
        Whether an EVSE lies behind a panel.
    room_a : ndarray, shape (panels, 3)
        A for charging that must hold even if control is lost now.
    live_a : ndarray, shape (panels, 3)
        A for charging at this moment; the same or more.
    demand_kw : float
        For charging until the quarter ends; infinite: no limit.
    """

    inline: F64
    room_a: F64
    live_a: F64
    demand_kw: float


class Wishes(NamedTuple):
    """What is wanted: most A per phase for each EVSE, why that, class (0 first), A needed to be in time, and
    the share of its limit that each vehicle is expected to draw (the quarter hour counts what is drawn)."""

    cap_a: F64
    reason: I64
    rank: I64
    need_a: F64
    drawn: F64


def used(inline: F64, amps: F64) -> F64:
    """Return what currents (n, 3) add up to behind each panel, shape (panels, 3)."""
    found: F64 = inline @ amps
    return found


def decide(
    points: Points, limits: Limits, wishes: Wishes, now_ms: int, rotation_ms: int, voltage_v: float
) -> tuple[F64, I64]:
    """Return the limit of each EVSE, A per phase (0: pause), and the reason.

    EVSEs that cannot be steered keep their fallback and count with what they may draw. Of the others, those
    who will only be in time with more than half of their power get what they need on average; everyone else
    the least a vehicle can use, by class and by what presses: the share of its power that a vehicle needs
    until its departure, or how long it waits for its turn. What is left goes to those with a departure, the
    most pressed first, and is then shared max-min fair in power, class by class.
    """
    steer = points.steerable(now_ms)
    uses = (points.uses > 0).astype(np.float64)
    cost = _cost(limits.inline, uses, wishes.drawn, voltage_v)
    room = _room(points, limits, steer, now_ms, voltage_v)
    cap = np.where(steer, np.minimum(wishes.cap_a, points.max_a), 0.0)
    first = np.minimum(np.maximum(points.min_a, points.fallback_a), cap)
    wants = steer & (cap >= points.min_a - _EPS)
    rows = 3 * len(limits.inline)
    entry = _entry(points, cost, first, rows)
    pressed = _pressed(points, wishes, cap, voltage_v)
    need = np.minimum(wishes.need_a, cap) * wants
    factor = _worth(limits, uses, need, room[:rows], _phases_bind(uses, cap * wants, room, voltage_v))
    worth = pressed * factor
    order = _order(points, wishes, wants, worth, now_ms, rotation_ms)
    untried = (points.judged == 0) & (wishes.drawn > 0) & (points.uses.sum(axis=1) > 1)
    hurry = ((worth >= _HURRY * factor[wants].max(initial=1.0)) & ~untried)[order]
    need = np.maximum(first, np.minimum(wishes.need_a, cap))
    owed = (untried | _owed(points, wishes, now_ms, rotation_ms)) & (wishes.rank < LAST)
    turn = owed[order] & ~hurry
    in_, room = _admit(order[turn], entry, room, len(points))
    hurried, room = _admit(order[hurry], _entry(points, cost, need, rows), room, len(points))
    share, in_ = np.where(in_, first, np.where(hurried, need, 0.0)), in_ | hurried
    # those who have finished take from what the others leave, not from their first ampere
    for group in (wishes.rank < LAST, wishes.rank >= LAST):
        new, room = _admit(order[(group & ~in_)[order]], entry, room, len(points))
        share, in_ = np.where(new, first, share), in_ | new
        share, room = _press(cost, room, share, cap, np.where(in_ & group, worth, 0.0), wishes)
        share, room = _fill(points, cost, room, share, cap, in_ & group, wishes)
    _keep_turns(points, wants, in_, now_ms)
    share = np.where(steer, share, points.fallback_a)
    reason = _reasons(points, wishes, steer, in_, share, cap, demand_full=bool(room[-1] < 0.05))
    return share, reason


def _pressed(points: Points, wishes: Wishes, cap: F64, voltage_v: float) -> F64:
    """Return the share of its power that each needs to be in time, at most 1; 0 without a departure."""
    usual = _USUAL_W / voltage_v / np.maximum(points.uses.sum(axis=1), 1)
    power_a = np.maximum(np.minimum(cap, np.maximum(usual, points.peak_a)), 1.0)
    found: F64 = np.minimum(wishes.need_a / power_a, 1.0)
    return found


def _cost(inline: F64, uses: F64, drawn: F64, voltage_v: float) -> F64:
    """Return what 1 A of each EVSE takes of each panel and phase, twice (to hold, live), and of demand."""
    lines = (inline[:, None, :] * uses.T[None]).reshape(-1, len(uses))
    return np.concatenate([lines, lines, (uses.sum(axis=1) * drawn * voltage_v / 1000)[None]])


def _entry(points: Points, cost: F64, first: F64, rows: int) -> F64:
    """Return what a first share takes of each limit; of the first `rows` the fallback is held anyway."""
    entry = cost * first
    entry[:rows] = cost[:rows] * np.maximum(first - points.fallback_a, 0.0)
    return entry


def _room(points: Points, limits: Limits, steer: BOOL, now_ms: int, voltage_v: float) -> F64:
    """Return what is left beside those who cannot be steered, and beside everyone's fallback."""
    may = points.may_draw_a(now_ms)
    held = np.where(steer[:, None], points.fallback_a[:, None] * points.wired, may)
    lost = np.where(steer[:, None], 0.0, may)
    drawn = np.where(steer[:, None], 0.0, points.meas_a)
    return np.concatenate(
        [
            (limits.room_a - used(limits.inline, held)).ravel(),
            (limits.live_a - used(limits.inline, lost)).ravel(),
            [limits.demand_kw - drawn.sum() * voltage_v / 1000],
        ]
    )


def _order(points: Points, wishes: Wishes, wants: BOOL, pressed: F64, now_ms: int, rotation_ms: int) -> I64:
    """Return who wants, in order of class; within it: what presses, who waited longest, who had a turn.

    Without a departure, waiting presses the more the longer it lasts, and a turn is kept to its end.
    """
    has = points.turn_ms > 0
    over = has & (now_ms - points.turn_ms >= rotation_ms)
    place = np.where(over, _HAD, np.where(has, _HAS, _WAITS))
    since = np.where(over, -points.turn_ms, np.where(has, points.turn_ms, points.wait_ms))
    waited = np.clip((now_ms - points.wait_ms) / (_PATIENCE * rotation_ms), 0.0, 1.0)
    turn = _HURRY * np.where(over, 0.0, np.where(has, 1.0, waited))
    presses = np.where(wishes.need_a > 0, pressed + np.where(has & ~over, _KEEPS, 0.0), turn)
    order = np.lexsort((np.arange(len(points)), since, place, -presses, wishes.rank))
    found: I64 = order[wants[order]]
    return found


def _phases_bind(uses: F64, cap: F64, room: F64, voltage_v: float) -> float:
    """Return 1 where the phases of the site bind, 0 where the quarter hour clearly allows less."""
    phases_kw = float(np.minimum(np.maximum(room[:3], 0.0), cap @ uses).sum()) * voltage_v / 1000
    beyond = phases_kw / max(float(room[-1]), 1.0) - 1.0
    return 1.0 - min(max(beyond / _QUARTER_BINDS, 0.0), 1.0)


def _worth(limits: Limits, uses: F64, need: F64, room: F64, bind: float) -> F64:
    """Return by how much more those count as pressed whose scarce amperes bring others with them, 1 to 2.

    `need` is A on average until departures; `room` what panels and phases have for charging; `bind` how far
    phases bind, 0 to 1.
    """
    scarce = _scarce(limits.inline, uses, need, np.maximum(room.reshape(-1, 3), 1.0))
    behind = (limits.inline[:, :, None] * scarce[:, None, :]).max(axis=0)
    found: F64 = 1.0 + bind * _SCARCE * (1.0 - (behind * uses).sum(axis=1) / np.maximum(uses.sum(axis=1), 1))
    return found


def _scarce(inline: F64, uses: F64, need: F64, room: F64) -> F64:
    """Return how scarce each phase of each panel is, 0 to 1, the scarcest first: whom it cannot serve does
    not press on the others."""
    scarce, need = np.zeros(room.shape), need.copy()
    for _ in range(room.size):
        share = used(inline, need[:, None] * uses) / room
        share[scarce > 0] = 0.0
        panel, phase = divmod(int(share.argmax()), 3)
        most = float(share[panel, phase])
        if most <= _SCARCE_FROM:
            break
        scarce[panel, phase] = min((most - _SCARCE_FROM) / _SCARCE_OVER, 1.0)
        need[(inline[panel] > 0) & (uses[:, phase] > 0)] /= max(most, 1.0)
    return scarce


def _owed(points: Points, wishes: Wishes, now_ms: int, rotation_ms: int) -> BOOL:
    """Return whom a hurry of others does not keep out: who has waited for two turns, to the end of the turn
    that follows, and who is in the midst of a turn; of those with a departure only who has next to nothing.

    Departures are often wrong: what is told of one puts nobody off to the last moment.
    """
    patience = _PATIENCE * rotation_ms
    free = wishes.need_a <= 0
    has = now_ms - points.turn_ms < rotation_ms
    keeps = has & (free | (points.turn_ms - points.wait_ms >= patience))
    poor = free | (points.energy_wh < _NEXT_TO_NOTHING * points.wanted_wh)
    owed: BOOL = np.where(points.turn_ms > 0, keeps, now_ms - points.wait_ms >= patience) & poor
    return owed


def _admit(order: I64, entry: F64, room: F64, n: int) -> tuple[BOOL, F64]:
    """Let those in, in order, whose least fits; whoever does not fit does not keep out who comes after."""
    in_ = np.zeros(n, np.bool_)
    total = entry[:, order].sum(axis=1)
    if (total <= room + _EPS).all():
        in_[order] = True
        return in_, room - total
    room = room.copy()
    for row in order:
        taken = entry[:, row]
        if (taken[taken > 0] <= room[taken > 0] + _EPS).all():
            room -= taken
            in_[row] = True
    return in_, room


def _keep_turns(points: Points, wants: BOOL, in_: BOOL, now_ms: int) -> None:
    """Note since when each has its turn or waits; a turn ends for those only who others wait for."""
    crowded = bool((wants & ~in_).any())
    begins = in_ & (points.turn_ms == 0)
    points.turn_ms[begins] = now_ms
    if not crowded:
        points.turn_ms[in_] = now_ms
    loses = ~in_ & (points.turn_ms > 0)
    points.wait_ms[loses] = now_ms
    points.turn_ms[loses] = 0


def _press(cost: F64, room: F64, share: F64, cap: F64, pressed: F64, wishes: Wishes) -> tuple[F64, F64]:
    """Give those with a departure what they need and some ahead, the most pressed first."""
    most = np.where(pressed > 0, np.minimum(wishes.need_a * _AHEAD, cap), 0.0)
    if not (most > share).any():
        return share, room
    unit = np.maximum(cap, 1.0) / _RELIEF  # A that relieve a vehicle of all of its need
    floor = 2.0 - pressed + share / unit
    filled = water_fill(cost * unit, room, floor, np.where(most > share, floor + (most - share) / unit, 0.0))
    more = share + np.maximum(filled - floor, 0.0) * unit
    return more, room - cost @ (more - share)


def _fill(
    points: Points, cost: F64, room: F64, share: F64, cap: F64, in_: BOOL, wishes: Wishes
) -> tuple[F64, F64]:
    legs = np.maximum(points.uses.sum(axis=1), 1).astype(np.float64)
    for rank in np.unique(wishes.rank[in_]).tolist():
        members = in_ & (wishes.rank == rank)
        if (members & (cap > share)).any():
            filled = water_fill(cost / legs, room, share * legs, np.where(members, cap * legs, 0.0)) / legs
            room = room - cost @ (filled - share)
            share = filled
    return share, room


def _reasons(
    points: Points, wishes: Wishes, steer: BOOL, in_: BOOL, share: F64, cap: F64, *, demand_full: bool
) -> I64:
    bound = np.full(len(points), DEMAND if demand_full else SITE)
    reason = np.where(share >= cap - 0.05, wishes.reason, bound)
    reason = np.where(in_, reason, np.where(cap >= points.min_a, TURN, wishes.reason))
    reason = np.where(steer, reason, FALLBACK)
    return np.where(points.plugged > 0, reason, FREE)
