"""The detect stage: every enabled detector sees every batch; the findings manager makes findings of it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any, Final

from models import plugins
from models.detecting import Detector, DetectorSpec, Emissions, Observed
from models.errors import SnapshotError
from models.finding_actions import actions_of
from models.findings import FindingsManager
from models.shard import ShardBatch

VERSION: Final = 1
PACKAGE: Final = "models.detectors"


@dataclass(frozen=True, slots=True)
class DetectConfig:
    """Enabled detectors with their settings.

    Attributes
    ----------
    detectors : dict
        Plug-in name -> its ``Config``; None: every plug-in there is, with its defaults.
    """

    detectors: dict[str, Any] | None = None


@dataclass(slots=True)
class _Loaded:
    name: str
    spec: DetectorSpec
    detector: Detector


@dataclass(slots=True)
class DetectStage:
    """Detectors and findings of one shard."""

    shard: int
    _loaded: list[_Loaded] = field(default_factory=list)
    _findings: FindingsManager = field(default_factory=FindingsManager)
    _out: Emissions = field(default_factory=Emissions)

    @classmethod
    def build(
        cls, shard: int, config: DetectConfig, resume_state: dict[str, Any] | None = None
    ) -> DetectStage:
        """Return the stage; a detector that is new since the saved state starts afresh."""
        state = resume_state or {"version": VERSION, "detectors": {}, "findings": None}
        if state["version"] != VERSION:
            raise SnapshotError(
                f"detect stage has version {state['version']!r}, this program reads {VERSION}"
            )
        configs = config.detectors
        if configs is None:
            configs = {name: _module(name).Config() for name in plugins.names(PACKAGE)}
        loaded = []
        for name in sorted(configs):
            module = _module(name)
            detector = module.build(configs[name], state["detectors"].get(name))
            loaded.append(_Loaded(name, module.SPEC, detector))
        return cls(shard, loaded, FindingsManager(resume_state=state["findings"]))

    def process(self, batch: ShardBatch) -> list[ShardBatch]:
        """Add findings to the batch."""
        seen = Observed(batch.devices, batch.rows, batch.messages, batch.records)
        for item in self._loaded:
            item.detector.process(seen, self._out)
        batch.findings = self._findings.apply(self._out.drain(), seen, self.shard)
        batch.finding_actions = actions_of(batch.records)
        return [batch]

    def finish(self) -> Iterable[ShardBatch]:
        """Nothing is held back: findings leave when they change."""
        return []

    def snapshot(self) -> dict[str, Any]:
        """Return the whole state as plain data."""
        return {
            "version": VERSION,
            "detectors": {item.name: item.detector.snapshot() for item in self._loaded},
            "findings": self._findings.snapshot(),
        }

    def running(self) -> list[dict[str, Any]]:
        """Return what detectors with learned models say of them (`models.learned.running`)."""
        told = [(i.name, getattr(i.detector, "running", lambda: None)()) for i in self._loaded]
        return [{"detector": name, **said} for name, said in told if said is not None]

    def nbytes(self) -> int:
        """Return the bytes of detector state held."""
        return sum(item.detector.nbytes() for item in self._loaded)


def _module(name: str) -> ModuleType:
    return plugins.load(PACKAGE, name)
