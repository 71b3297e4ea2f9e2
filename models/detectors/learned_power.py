"""Power outside what a model expects of the vehicle: `unusual`, by the source `learned`.

The model (`models.learned.power_model`) knows what vehicles of a class take minute by minute, as a share of
what they took in their first five minutes, given how long they charge, the energy so far, state of charge,
offer and temperature. It comes from ``chargestream train --kind power`` and is chosen as that of
`learned_session`, by messages of the kind ``power``.

Raised when the mean power of minutes leaves the model's band and stays outside for the time and in the number
of minutes that the model was calibrated for, while the offer allows the band: below it, when at least the
band's lower edge is offered; above it, when no more is offered than in the first minutes. Minutes without a
known offer, asleep (up to 100 W) or suspended say nothing. Cleared by as long a time inside, and with the end
of the session.

Without a folder of models the detector keeps no state and does nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import numpy as np

from models._kernel import kernel
from models.batch import F64, I8, I32, I64, U8
from models.detecting import CLEAR, INFO, DetectorSpec, Emissions, Observed
from models.learned.power_model import KIND as MODELS
from models.learned.power_model import PowerModel, load
from models.learned.power_windows import (
    CHANNELS,
    N_INPUTS,
    N_SHAPES,
    OFFER_AS_FIRST,
    OFFER_KNOWN,
    OVER,
    POWER_BLANK,
    POWER_FIELDS,
    SHAPES,
    USABLE,
    Windows,
    chosen,
    room_for,
    warm_up,
    windows_of,
)
from models.learned.promotion import KIND
from models.records import Operator
from models.units import NO_TIME

from ._base import Table, ns
from ._kernels import NOTHING, WATCH_BLANK, WATCH_FIELDS, Lasting, watch
from ._roles import COMPARED, LearnedConfig, Roles, check_snapshot

SPEC = DetectorSpec(
    "unusual",
    "evse",
    "learned",
    CHANNELS,
    ("detector", "power_w", "low_w", "high_w", "usual_w", "model"),
)

NAME: Final = "learned_power"
VERSION: Final = 1

_WATCH: Final[list[Any]] = [*WATCH_FIELDS, ("spoke", "u1")]  # in this session
_OFFERED: Final = 3  # of the inputs


@dataclass(frozen=True, slots=True)
class Config(LearnedConfig):
    """Where models are, and which one judges.

    Attributes
    ----------
    models : str
        Folder of models. Unit: path. Default none, which turns the detector off. Source: a model is trained
        from one's own sessions.
    model : str
        Id of the model that judges from the start. Unit: id. Default none. Source: ``chargestream models``.
    shadow : str
        Id of the model that judges in silence. Unit: id. Default none. Source: ``chargestream models``.
    """

    models: str = ""
    model: str = ""
    shadow: str = ""

    def __post_init__(self) -> None:
        self.check(NAME)


class _Seen(NamedTuple):
    """Windows and ends of sessions as the kernel takes them."""

    evse: I32
    time_ns: I64
    live: U8
    flags: U8
    share: F64
    offered: F64
    low: F64
    high: F64


class _Told(NamedTuple):
    """What the kernel says of each row."""

    kind: I8  # to emit
    start_ns: I64
    time_ns: I64
    live: U8
    spoke: U8  # of an end: the session was found unusual


@kernel
def _watch_all(seen: _Seen, state: Any, rule: Lasting, out: _Told) -> None:
    """Take in rows in the order of each EVSE's time."""
    for j in range(len(seen.evse)):
        rec, t, flags = state[seen.evse[j]], seen.time_ns[j], seen.flags[j]
        out.time_ns[j], out.start_ns[j], out.live[j] = t, rec["start_ns"], rec["live"]
        if flags & OVER != 0:
            out.spoke[j] = rec["spoke"]
            if rec["raised"] != 0:
                out.kind[j] = CLEAR
                if rec["good_ns"] != NO_TIME:
                    out.time_ns[j] = rec["good_ns"]
            rec["raised"] = rec["spoke"] = 0
            rec["n"] = rec["n2"] = 0
            rec["good_ns"] = rec["last_ns"] = NO_TIME
            continue
        if flags & USABLE == 0 or flags & OFFER_KNOWN == 0:
            continue
        below = seen.share[j] < seen.low[j] and seen.offered[j] >= seen.low[j]
        above = seen.share[j] > seen.high[j] and flags & OFFER_AS_FIRST != 0
        kind = watch(rec, t, 1 if below or above else 0, seen.live[j], rule)
        if kind == CLEAR:
            out.time_ns[j] = rec["good_ns"]
        elif kind != NOTHING:
            rec["spoke"] = 1
            out.start_ns[j], out.live[j] = rec["start_ns"], rec["live"]
        out.kind[j] = kind


def _load(path: Any) -> PowerModel:
    model = load(path)
    model.band(np.full((1, N_INPUTS), np.nan), np.full((1, N_SHAPES), np.nan))  # compiled here
    return model


def _judged(model: PowerModel | None, w: Windows, state: Any) -> tuple[_Seen, _Told]:
    """Return rows with the band of a model, and what it says of them; nobody: nothing but the ends."""
    n = len(w.evse)
    flags, low, high, rule = w.flags & np.uint8(OVER), np.zeros(n), np.zeros(n), Lasting(0, 1, 0, 0)
    if model is not None:
        low, high = model.band(w.inputs, w.shapes)
        hold, gap = ns(model.header["hold_s"]), ns(model.header["gap_s"])
        flags, rule = w.flags, Lasting(hold, int(model.header["windows"]), hold, gap)
    offered = np.ascontiguousarray(w.inputs[:, _OFFERED])
    seen = _Seen(w.evse, w.time_ns, w.live, flags, w.share, offered, low, high)
    i64, u8 = np.zeros(n, np.int64), np.zeros(n, np.uint8)
    told = _Told(np.zeros(n, np.int8), i64, i64.copy(), u8, u8.copy())
    _watch_all(seen, state, rule, told)
    return seen, told


class _Detector:
    """Gathers power minute by minute, and lets the model that stands at its order judge it."""

    def __init__(self, config: Config, resume_state: dict[str, Any] | None) -> None:
        self._on = bool(config.models)
        self._table = Table(POWER_FIELDS, POWER_BLANK)
        self._aloud, self._silent = (Table(_WATCH, WATCH_BLANK) for _ in range(2))
        self._roles = Roles(config, MODELS, _load)
        if resume_state is not None:
            check_snapshot(NAME, VERSION, resume_state)
            if self._on:
                for table, name in zip(self._tables(), ("evses", "aloud", "silent"), strict=True):
                    table.load(resume_state[name], NAME)
                self._roles.restore(resume_state)
        if self._on:
            warm_up(self._table.rows)
            _judged(None, chosen(room_for(0), slice(0)), self._aloud.rows)
            self._roles.start()

    def _tables(self) -> tuple[Table, Table, Table]:
        return self._table, self._aloud, self._silent

    def process(self, seen: Observed, out: Emissions) -> None:
        """Take in one batch and emit what changed."""
        if not self._on:
            return
        for table in self._tables():
            table.reserve(seen.devices.n_evses)
        windows, at = windows_of(seen, self._table.rows), 0
        # by order: a promotion stands for the minutes that are over after it
        windows = chosen(windows, np.argsort(windows.order, kind="stable"))
        for record in seen.records:
            if isinstance(record, Operator) and record.topic == KIND:
                stop = int(np.searchsorted(windows.order, record.at.order, side="left"))
                self._judge(windows, at, stop, out)
                at, before = stop, dict(self._roles.ids)
                self._roles.choose(record.body)
                if self._roles.ids["shadow"] != before["shadow"]:
                    self._silent = Table(_WATCH, WATCH_BLANK)  # what another one thought is not its word
                    self._silent.reserve(seen.devices.n_evses)
        self._judge(windows, at, len(windows.evse), out)

    def _judge(self, windows: Windows, start: int, stop: int, out: Emissions) -> None:
        """Let the models of this moment judge rows [start, stop)."""
        if start == stop:
            return
        part = chosen(windows, slice(start, stop))
        active, shadow = self._roles.model("model"), self._roles.model("shadow")
        seen, told = _judged(active, part, self._aloud.rows)
        for j in np.flatnonzero(told.kind).tolist():
            self._emit(active, part, seen, told, j, out)
        over = part.flags & OVER != 0
        self._roles.saw(part.shapes[over])
        if shadow is not None:
            _, silent = _judged(shadow, part, self._silent.rows)
            both = told.spoke[over].astype(np.int64) + 2 * silent.spoke[over]
            self._roles.compared += np.bincount(both, minlength=len(COMPARED))

    def _emit(
        self, active: PowerModel | None, part: Windows, seen: _Seen, told: _Told, j: int, out: Emissions
    ) -> None:
        evidence: dict[str, Any] = {"detector": NAME}
        score = 1.0
        if active is not None and told.kind[j] != CLEAR:
            x = active.features(part.inputs[j : j + 1], part.shapes[j : j + 1])
            watts, share = float(part.reference_w[j]), float(part.share[j])
            low, high = float(seen.low[j]), float(seen.high[j])
            score = low / share if share < low else share / high
            figures = {"power_w": share, "low_w": low, "high_w": high}
            figures["usual_w"] = float(active.expected("middle", x)[0])
            evidence |= {name: round(value * watts, 6) for name, value in figures.items()}
            evidence["model"] = self._roles.ids["model"]
        out.add(
            SPEC,
            order=int(part.order[j]),
            effect_ns=int(part.effect_ns[j]),
            subject=int(part.evse[j]),
            kind=int(told.kind[j]),
            severity=INFO,
            start_ns=int(told.start_ns[j]),
            time_ns=int(told.time_ns[j]),
            live=bool(told.live[j]),
            score=score,
            evidence=evidence,
        )

    def snapshot(self) -> dict[str, Any]:
        """Return the whole state as plain data, copied."""
        names = ("evses", "aloud", "silent")
        tables = {name: table.columns() for name, table in zip(names, self._tables(), strict=True)}
        return {"code": NAME, "version": VERSION, **tables, **self._roles.snapshot()}

    def running(self) -> dict[str, Any] | None:
        """Return which models judge and whether the active one still fits, None without a folder."""
        return self._roles.running(lambda _: list(SHAPES)) if self._on else None

    def nbytes(self) -> int:
        """Return the bytes of state held per EVSE; models are shared by all and not in it."""
        return sum(table.nbytes for table in self._tables())


def build(config: Config, resume_state: dict[str, Any] | None = None) -> _Detector:
    """Return the detector, with the state of `resume_state` if given."""
    return _Detector(config, resume_state)
