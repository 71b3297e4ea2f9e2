"""A finished session unlike those a model was trained on: `unusual`, by the source `learned`.

The model (`models.learned.session_model`) comes from ``chargestream train`` and is chosen by its id: by the
configuration at the start, and from then on by journaled operator messages ``evt/v1/_op/model``
{"model": id, "shadow": id, "by": name} (an empty id: none). What a journal leads to depends on its messages,
the configuration and files whose content their name is made of. A message that names a model the folder does
not have changes nothing.

A finding is raised when a session ends that the model finds unusual, and clears with the next session of the
EVSE that it does not. A shadow model judges the same sessions and finds nothing
aloud: what it would have found is counted beside the other's (`chargestream models shadow`).

Without a folder of models the detector keeps no state and does nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from models.detecting import CLEAR, INFO, RAISE, UPDATE, DetectorSpec, Emissions, Observed
from models.errors import ConfigError, SnapshotError
from models.learned.gathering import finished, warm_up
from models.learned.promotion import KIND, wanted
from models.learned.session_model import Scores, SessionModel, find, load
from models.learned.sessions import (
    CHANNELS,
    FEATURES,
    SESSION_BLANK,
    SESSION_FIELDS,
    Finished,
    chosen,
    restored,
)
from models.records import Operator
from models.units import NO_TIME

from ._base import Table

SPEC = DetectorSpec(
    "unusual",
    "evse",
    "learned",
    CHANNELS,
    ("score", "level", "feature", "value", "usual", "model"),
)

NAME: Final = "learned_session"
VERSION: Final = 1

_FIELDS: Final[list[Any]] = [
    *SESSION_FIELDS,
    ("raised_ns", "i8"),  # start of the session that was unusual; NO_TIME: none open
    ("raised_live", "u1"),
]
_BLANK: Final[dict[str, Any]] = SESSION_BLANK | {"raised_ns": NO_TIME}

#: What is counted of each session that both models judged, by (active says so) + 2 x (shadow says so).
_COMPARED: Final = ("neither", "only_active", "only_shadow", "both")


@dataclass(frozen=True, slots=True)
class Config:
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
        wrong = [
            f"[detectors.{NAME}] {name} = {getattr(self, name)!r}: expected text"
            for name in ("models", "model", "shadow")
            if not isinstance(getattr(self, name), str)
        ]
        if not wrong and not self.models:
            wrong = [
                f"[detectors.{NAME}] {name} = {getattr(self, name)!r}: expected a folder in models with it"
                for name in ("model", "shadow")
                if getattr(self, name)
            ]
        if wrong:
            raise ConfigError("\n".join(wrong))


class _Detector:
    """Gathers sessions, and lets the model that stands at their order judge them."""

    def __init__(self, config: Config, resume_state: dict[str, Any] | None) -> None:
        self._config = config
        self._table = Table(_FIELDS, _BLANK)
        self._loaded: dict[str, SessionModel] = {}
        self._ids = {"model": self._full_id(config.model), "shadow": self._full_id(config.shadow)}
        self._configured = dict(self._ids)
        self._compared = np.zeros(len(_COMPARED), np.int64)
        if resume_state is not None:
            self._restore(resume_state)
        if config.models:
            warm_up(self._table.rows)
            for model_id in self._ids.values():
                if model_id:
                    self._model(model_id)

    def _full_id(self, name: str) -> str:
        return find(self._config.models, name).stem if name else ""

    def _model(self, model_id: str) -> SessionModel:
        if model_id not in self._loaded:
            model = load(find(self._config.models, model_id))
            model.score(np.full((1, len(FEATURES)), np.nan))  # compiled here
            self._loaded[model_id] = model
        return self._loaded[model_id]

    def _restore(self, state: dict[str, Any]) -> None:
        found = (state.get("code"), state.get("version"))
        if found != (NAME, VERSION):
            raise SnapshotError(
                f"detector {NAME} reads snapshots of version {VERSION}, this one is {found[1]!r} of"
                f" {found[0]!r}; start it without saved state, or with the program that wrote it"
            )
        if not self._config.models:
            return
        self._table.load(state["evses"], NAME)
        # what operators chose stands, unless the configuration was changed since
        if state["configured"] == self._configured:
            self._ids = dict(state["ids"])
        if self._ids == state["ids"]:
            self._compared = np.array(state["compared"], np.int64)

    def process(self, seen: Observed, out: Emissions) -> None:
        """Take in one batch and emit what changed."""
        if not self._config.models:
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
                self._choose(record.body)
        self._judge(sessions, at, n, out)

    def _choose(self, body: dict[str, Any]) -> None:
        """Do as an operator says; what cannot be done changes nothing."""
        asked = wanted(body, self._ids)
        if asked is None:
            return
        try:
            ids = {role: self._full_id(name) for role, name in asked.items()}
            for model_id in filter(None, ids.values()):
                self._model(model_id)
        except ConfigError:
            return
        if ids != self._ids:
            self._ids = ids
            self._compared[:] = 0

    def _judge(self, sessions: Finished, start: int, stop: int, out: Emissions) -> None:
        """Let the models of this moment judge sessions [start, stop)."""
        if start == stop:
            return
        part = chosen(sessions, slice(start, stop))
        active, shadow = self._ids["model"], self._ids["shadow"]
        aloud = np.zeros(stop - start, np.bool_)
        if active:
            scores = self._model(active).score(part.features)
            aloud = scores.unusual
            for j in range(len(aloud)):
                self._tell(part, j, scores, out)
        else:  # nobody is left who could say that it still is
            for j in range(len(aloud)):
                if self._table.rows[part.evse[j]]["raised_ns"] != NO_TIME:
                    self._emit(CLEAR, part, j, 1.0, {}, out)
        if shadow:
            silent = self._model(shadow).score(part.features).unusual
            self._compared += np.bincount(aloud + 2 * silent, minlength=len(_COMPARED))

    def _tell(self, sessions: Finished, j: int, scores: Scores, out: Emissions) -> None:
        """Raise, update or clear as the active model says of session j."""
        rec = self._table.rows[sessions.evse[j]]
        is_open, live = rec["raised_ns"] != NO_TIME, bool(sessions.live[j])
        model = self._model(self._ids["model"])
        level, score = float(model.header["forest_level"]), float(scores.forest[j])
        evidence: dict[str, Any] = {"score": round(score, 6), "level": round(level, 6)}
        if not scores.unusual[j]:
            if is_open:
                self._emit(CLEAR, sessions, j, score / level, evidence, out)
            return
        odd = int(np.argmax(np.abs(scores.z[j])))
        name = model.header["features"][odd]
        value = float(sessions.features[j, FEATURES.index(name)])
        evidence |= {"feature": name, "model": self._ids["model"]}
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
        return {
            "code": NAME,
            "version": VERSION,
            "evses": self._table.columns(),
            "ids": dict(self._ids),
            "configured": dict(self._configured),
            "compared": self._compared.tolist(),
        }

    def compared(self) -> dict[str, int]:
        """Return how both models judged the sessions since they stand beside each other."""
        return dict(zip(_COMPARED, self._compared.tolist(), strict=True))

    def nbytes(self) -> int:
        """Return the bytes of state held per EVSE; models are shared by all and not in it."""
        return self._table.nbytes


def build(config: Config, resume_state: dict[str, Any] | None = None) -> _Detector:
    """Return the detector, with the state of `resume_state` if given."""
    return _Detector(config, resume_state)
