"""Recorded sessions as models of each kind see them: for comparing two models, and for drift."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from models.batch import F64
from models.errors import ConfigError
from models.learned.catalogue import Learned
from models.learned.power_model import PowerModel
from models.learned.power_training import PowerRows, first_shapes, unusual_sessions, usable
from models.learned.power_windows import SHAPES
from models.learned.session_model import SessionModel
from models.learned.sessions import transformed

from .config import Config
from .replay_sessions import Sessions, power_rows_of, sessions_of


class Recorded(Protocol):
    """Sessions that models of one kind can judge."""

    def unusual(self, model: Learned) -> NDArray[np.bool_]:
        """Return for each session whether a model finds it unusual."""

    def population(self, model: Learned) -> tuple[list[str], F64]:
        """Return names and values of what drift is measured in, shape (sessions, features)."""

    def named(self, k: int) -> dict[str, Any]:
        """Return where and when session k was; times epoch ms."""


def recorded(kind: str, config: Config, logs: list[Path], journals: list[Path]) -> Recorded:
    """Return the sessions of logs and journals for models of a kind."""
    if kind == "power":
        return _Power(usable(power_rows_of(config, logs, journals)))
    return _Finished(sessions_of(config, logs, journals))


class _Finished:
    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions

    def unusual(self, model: Learned) -> NDArray[np.bool_]:
        if not isinstance(model, SessionModel):
            raise ConfigError(f"{model.model_id} is no model of sessions")
        return model.score(self._sessions.features).unusual

    def population(self, model: Learned) -> tuple[list[str], F64]:
        if not isinstance(model, SessionModel):
            raise ConfigError(f"{model.model_id} is no model of sessions")
        return list(model.header["features"]), transformed(self._sessions.features)[:, model.used]

    def named(self, k: int) -> dict[str, Any]:
        s = self._sessions
        return {
            "station": str(s.station[k]),
            "evse": int(s.evse[k]),
            "start": int(s.start_ns[k]) // 1_000_000,
            "end": int(s.end_ns[k]) // 1_000_000,
        }


class _Power:
    def __init__(self, rows: PowerRows) -> None:
        self._rows = rows
        self._first = np.unique(rows.session, return_index=True)[1]
        self._last = np.r_[self._first[1:], len(rows.session)] - 1

    def unusual(self, model: Learned) -> NDArray[np.bool_]:
        if not isinstance(model, PowerModel):
            raise ConfigError(f"{model.model_id} is no model of power")
        return unusual_sessions(model, self._rows)

    def population(self, model: Learned) -> tuple[list[str], F64]:
        return list(SHAPES), first_shapes(self._rows)

    def named(self, k: int) -> dict[str, Any]:
        rows, first, last = self._rows, self._first[k], self._last[k]
        return {
            "station": str(rows.station[first]),
            "evse": int(rows.evse[first]),
            "start": int(rows.time_ns[first]) // 1_000_000,
            "end": int(rows.time_ns[last]) // 1_000_000,
        }
