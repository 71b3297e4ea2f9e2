"""A finished session unlike those a model was trained on: `unusual`, by the source `learned`.

The model (`models.learned.session_model`) comes from ``chargestream train`` and is chosen by its id: by the
configuration at the start, and from then on by journaled operator messages ``evt/v1/_op/model`` {"kind":
"session", "model": id, "shadow": id, "by": name} (an empty id: none). What a journal leads to depends on its
messages, the configuration and files whose content their name is made of. A message that names a model the
folder does not have changes nothing. Whether sessions are still those the model was trained for is counted in
constant memory (`models.learned.drift`) and shown with the status of the worker.

A finding is raised when a session ends that the model finds unusual, and clears with the next session of the
EVSE that it does not. A shadow model judges the same sessions and finds nothing aloud: what it would have
found is counted beside the other's (`chargestream models shadow`).

Without a folder of models the detector keeps no state and does nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from models.detecting import CLEAR, INFO, RAISE, UPDATE, DetectorSpec, Emissions, Observed
from models.learned.gathering import finished, warm_up
from models.learned.promotion import KIND
from models.learned.session_model import KIND as MODELS
from models.learned.session_model import Scores, SessionModel, load
from models.learned.sessions import (
    CHANNELS,
    FEATURES,
    SESSION_BLANK,
    SESSION_FIELDS,
    Finished,
    chosen,
    restored,
    transformed,
)
from models.records import Operator
from models.units import NO_TIME

from ._base import Table
from ._roles import COMPARED, LearnedConfig, Roles, check_snapshot

SPEC = DetectorSpec(
    "unusual",
    "evse",
    "learned",
    CHANNELS,
    ("score", "level", "feature", "value", "usual", "model"),
)

NAME: Final = "learned_session"
VERSION: Final = 2

_FIELDS: Final[list[Any]] = [
    *SESSION_FIELDS,
    ("raised_ns", "i8"),  # start of the session that was unusual; NO_TIME: none open
    ("raised_live", "u1"),
]
_BLANK: Final[dict[str, Any]] = SESSION_BLANK | {"raised_ns": NO_TIME}


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


def _load(path: Any) -> SessionModel:
    model = load(path)
    model.score(np.full((1, len(FEATURES)), np.nan))  # compiled here
    return model


class _Detector:
    """Gathers sessions, and lets the model that stands at their order judge them."""

    def __init__(self, config: Config, resume_state: dict[str, Any] | None) -> None:
        self._on = bool(config.models)
        self._table = Table(_FIELDS, _BLANK)
        self._roles = Roles(config, MODELS, _load)
        if resume_state is not None:
            check_snapshot(NAME, VERSION, resume_state)
            if self._on:
                self._table.load(resume_state["evses"], NAME)
                self._roles.restore(resume_state)
        if self._on:
            warm_up(self._table.rows)
            self._roles.start()

    def process(self, seen: Observed, out: Emissions) -> None:
        """Take in one batch and emit what changed."""
        if not self._on:
            return
        self._table.reserve(seen.devices.n_evses)
        sessions = finished(seen, self._table.rows)
        n, at = len(sessions.evse), 0
        # by order: a promotion stands for what finishes after it
        sessions = chosen(sessions, np.argsort(sessions.order, kind="stable"))
        for record in seen.records:
            if isinstance(record, Operator) and record.topic == KIND:
                stop = int(np.searchsorted(sessions.order, record.at.order, side="left"))
                self._judge(sessions, at, stop, out)
                at = stop
                self._roles.choose(record.body)
        self._judge(sessions, at, n, out)

    def _judge(self, sessions: Finished, start: int, stop: int, out: Emissions) -> None:
        """Let the models of this moment judge sessions [start, stop)."""
        if start == stop:
            return
        part = chosen(sessions, slice(start, stop))
        active, shadow = self._roles.model("model"), self._roles.model("shadow")
        aloud = np.zeros(stop - start, np.bool_)
        if active is not None:
            scores = active.score(part.features)
            aloud = scores.unusual
            self._roles.saw(transformed(part.features)[:, active.used])
            for j in range(len(aloud)):
                self._tell(active, part, j, scores, out)
        else:  # nobody is left who could say that it still is
            for j in range(len(aloud)):
                if self._table.rows[part.evse[j]]["raised_ns"] != NO_TIME:
                    self._emit(CLEAR, part, j, 1.0, {}, out)
        if shadow is not None:
            silent = shadow.score(part.features).unusual
            self._roles.compared += np.bincount(aloud + 2 * silent, minlength=len(COMPARED))

    def _tell(self, model: SessionModel, sessions: Finished, j: int, scores: Scores, out: Emissions) -> None:
        """Raise, update or clear as the active model says of session j."""
        rec = self._table.rows[sessions.evse[j]]
        is_open, live = rec["raised_ns"] != NO_TIME, bool(sessions.live[j])
        level, score = float(model.header["forest_level"]), float(scores.forest[j])
        evidence: dict[str, Any] = {"score": round(score, 6), "level": round(level, 6)}
        if not scores.unusual[j]:
            if is_open:
                self._emit(CLEAR, sessions, j, score / level, evidence, out)
            return
        odd = int(np.argmax(np.abs(scores.z[j])))
        name = model.header["features"][odd]
        value = float(sessions.features[j, FEATURES.index(name)])
        evidence |= {"feature": name, "model": self._roles.ids["model"]}
        evidence["usual"] = round(restored(name, float(model.centre[odd])), 6)
        if value == value:
            evidence["value"] = round(value, 6)
        raised = not is_open or (live and not rec["raised_live"])
        if raised:
            rec["raised_ns"], rec["raised_live"] = sessions.start_ns[j], live
        self._emit(RAISE if raised else UPDATE, sessions, j, score / level, evidence, out)

    def _emit(
        self, kind: int, sessions: Finished, j: int, score: float, evidence: dict[str, Any], out: Emissions
    ) -> None:
        rec = self._table.rows[sessions.evse[j]]
        out.add(
            SPEC,
            order=int(sessions.order[j]),
            effect_ns=int(sessions.effect_ns[j]),
            subject=int(sessions.evse[j]),
            kind=kind,
            severity=INFO,
            start_ns=int(rec["raised_ns"]),
            time_ns=int(sessions.end_ns[j]),
            live=bool(rec["raised_live"]),
            score=score,
            evidence=evidence,
        )
        if kind == CLEAR:
            rec["raised_ns"] = NO_TIME

    def snapshot(self) -> dict[str, Any]:
        """Return the whole state as plain data, copied."""
        state = {"code": NAME, "version": VERSION, "evses": self._table.columns()}
        return state | self._roles.snapshot()

    def compared(self) -> dict[str, int]:
        """Return how both models judged the sessions since they stand beside each other."""
        return dict(zip(COMPARED, self._roles.compared.tolist(), strict=True))

    def running(self) -> dict[str, Any] | None:
        """Return which models judge and whether the active one still fits, None without a folder."""
        return self._roles.running(lambda model: list(model.header["features"])) if self._on else None

    def nbytes(self) -> int:
        """Return the bytes of state held per EVSE; models are shared by all and not in it."""
        return self._table.nbytes


def build(config: Config, resume_state: dict[str, Any] | None = None) -> _Detector:
    """Return the detector, with the state of `resume_state` if given."""
    return _Detector(config, resume_state)
