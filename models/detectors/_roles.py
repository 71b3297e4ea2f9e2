"""Which learned model judges, aloud or in silence, and whether it still fits: what learned detectors share.

Models are files in a folder, known by their fingerprints. The configuration names those of the start;
journaled operator messages (`models.learned.promotion`) choose from then on. A message that names a model
which the folder does not have, or another kind of model, changes nothing; what was refused last is shown.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Generic, Protocol, TypeVar

import numpy as np

from models.batch import F64
from models.errors import ConfigError, SnapshotError
from models.learned import drift
from models.learned.model_file import find
from models.learned.promotion import ROLES, wanted

#: What is counted of what both models judged, by (active says so) + 2 x (shadow says so).
COMPARED: Final = ("neither", "only_active", "only_shadow", "both")


@dataclass(frozen=True, slots=True)
class LearnedConfig:
    """Where models are, and which one judges."""

    models: str = ""
    model: str = ""
    shadow: str = ""

    def check(self, name: str) -> None:
        """Raise `ConfigError` naming every field of the detector `name` that is wrong."""
        wrong = [
            f"[detectors.{name}] {key} = {getattr(self, key)!r}: expected text"
            for key in ("models", "model", "shadow")
            if not isinstance(getattr(self, key), str)
        ]
        if not wrong and not self.models:
            wrong = [
                f"[detectors.{name}] {key} = {getattr(self, key)!r}: expected a folder in models with it"
                for key in ROLES
                if getattr(self, key)
            ]
        if wrong:
            raise ConfigError("\n".join(wrong))


class Drifting(Protocol):
    """What of a model says which population it was trained for."""

    @property
    def header(self) -> dict[str, Any]:
        """What is known of its training."""

    @property
    def edges(self) -> F64:
        """Borders of bins."""

    @property
    def shares(self) -> F64:
        """Share of training sessions in each bin."""


M = TypeVar("M", bound=Drifting)


class Roles(Generic[M]):
    """The models of one detector.

    Parameters
    ----------
    config : LearnedConfig
    kind : str
        Of the models.
    load : callable
        Reads one, compiles what scores it, and raises `ConfigError` if it is of another kind.
    """

    def __init__(self, config: LearnedConfig, kind: str, load: Callable[[Any], M]) -> None:
        self._folder, self._kind, self._load = config.models, kind, load
        self._loaded: dict[str, M] = {}
        self.ids = {role: self._full_id(getattr(config, role)) for role in ROLES}
        self._configured = dict(self.ids)
        self.compared = np.zeros(len(COMPARED), np.int64)
        self.tally = drift.Tally()
        self.refused = ""

    def _full_id(self, name: str) -> str:
        return find(self._folder, name).stem if name else ""

    def model(self, role: str) -> M | None:
        """Return the model that has a role, None when nobody has it."""
        model_id = self.ids[role]
        return self._model(model_id) if model_id else None

    def _model(self, model_id: str) -> M:
        if model_id not in self._loaded:
            self._loaded[model_id] = self._load(find(self._folder, model_id))
        return self._loaded[model_id]

    def start(self) -> None:
        """Read the models of the start, and begin to count for the active one."""
        for role in ROLES:
            self.model(role)
        if not len(self.tally.counts):
            self._fresh()

    def _fresh(self) -> None:
        active = self.model("model")
        self.tally = drift.Tally(0 if active is None else len(active.edges))
        self.compared[:] = 0

    def choose(self, body: dict[str, Any]) -> None:
        """Do as an operator says; what cannot be done changes nothing."""
        asked = wanted(body, self._kind, self.ids)
        if asked is None:
            return
        try:
            ids = {role: self._full_id(name) for role, name in asked.items()}
            for model_id in filter(None, ids.values()):
                self._model(model_id)
        except ConfigError:
            self.refused = ", ".join(name for role, name in asked.items() if name != self.ids[role])
            return
        self.refused = ""
        if ids != self.ids:
            self.ids = ids
            self._fresh()

    def saw(self, x: F64) -> None:
        """Count what passed the active model: features of sessions as it sees them, before scaling."""
        active = self.model("model")
        if active is not None:
            self.tally.add(x, active.edges)

    def snapshot(self) -> dict[str, Any]:
        """Return plain data, copied."""
        return {
            "ids": dict(self.ids),
            "configured": dict(self._configured),
            "compared": self.compared.tolist(),
            "seen": self.tally.counts.copy(),
            "refused": self.refused,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Take over what `snapshot` returned.

        What operators chose stands, unless the configuration was changed since.
        """
        if state["configured"] == self._configured:
            self.ids = dict(state["ids"])
        if self.ids == state["ids"]:
            self.compared = np.array(state["compared"], np.int64)
            self.tally = drift.Tally(counts=np.array(state["seen"], np.int64))
            self.refused = state["refused"]

    def running(self, features: Callable[[M], list[str]]) -> dict[str, Any]:
        """Return what stands now, as JSON data; `features` names what a model counts."""
        active = self.model("model")
        return {
            "kind": self._kind,
            **self.ids,
            "refused": self.refused,
            "compared": dict(zip(COMPARED, self.compared.tolist(), strict=True)),
            "features": [] if active is None else features(active),
            "shares": [] if active is None else active.shares.tolist(),
            "counts": self.tally.counts.tolist(),
            "trained": 0 if active is None else int(active.header["training"]["sessions"]),
        }


def check_snapshot(name: str, version: int, state: dict[str, Any]) -> None:
    """Raise `SnapshotError` unless `state` is a snapshot of this detector and version."""
    found = (state.get("code"), state.get("version"))
    if found != (name, version):
        raise SnapshotError(
            f"detector {name} reads snapshots of version {version}, this one is {found[1]!r} of"
            f" {found[0]!r}; start it without saved state, or with the program that wrote it"
        )
