"""One finding that is not cleared, and the runs that make one finding of many."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ._finding_subjects import Names
from .detecting import SEVERITIES
from .faults import FAULTS
from .outputs import FindingChange
from .units import NS_PER_MS

#: code, scope, subject row, the station's own code ("" but for `station_reported`), live
Key = tuple[str, str, int, str, bool]


@dataclass(slots=True)
class Finding:
    """A finding that is not cleared."""

    finding_id: str
    key: Key
    names: Names  # site, node, station, evse
    scope: str  # as published
    connector: int | None
    severity: int
    source: str
    live: bool
    planned: bool
    raised_at: int
    start: int
    last: int
    score: float
    evidence: dict[str, Any]
    taxonomy: str | None
    parent: str | None
    change: int
    changed_ns: int
    says: dict[str, bool] = field(default_factory=dict)  # who said so -> still says so
    parent_key: Key | None = None

    def heard(self, who: str) -> None:
        """Note that `who` (a source, or ``source:scope``) says so; several sources show in the evidence."""
        self.says[who] = True
        sources = sorted({said.partition(":")[0] for said in self.says})
        if len(sources) > 1:
            self.evidence["sources"] = ", ".join(sources)

    def told(self, state: str, shard: int, order: int, effect_ns: int, end: int | None) -> FindingChange:
        """Count a change of state and return its record."""
        self.change += 1
        self.changed_ns = effect_ns
        site, node, station, evse = self.names
        return FindingChange(
            finding_id=self.finding_id,
            code=self.key[0],
            scope=self.scope,
            site=site,
            node=node,
            station=station,
            evse=evse,
            connector=self.connector,
            severity=SEVERITIES[self.severity],
            source=self.source,
            state=state,
            live=self.live,
            planned=self.planned,
            raised_at=self.raised_at,
            start=self.start,
            last=self.last,
            end=end,
            score=round(self.score, 6),
            evidence=dict(self.evidence),
            taxonomy=self.taxonomy,
            advice=FAULTS[self.key[0]].advice,
            parent=self.parent,
            change=self.change,
            changed_at=effect_ns // NS_PER_MS,
            shard=shard,
            order=order,
        )

    def snapshot(self) -> dict[str, Any]:
        """Return plain data, copied."""
        values = {name: getattr(self, name) for name in Finding.__slots__}
        values |= {"evidence": dict(self.evidence), "says": dict(self.says)}
        values |= {"key": list(self.key), "names": list(self.names)}
        values["parent_key"] = None if self.parent_key is None else list(self.parent_key)
        return values

    @classmethod
    def restore(cls, values: dict[str, Any]) -> Finding:
        """Return the finding that `snapshot` saved."""
        fields = dict(values)
        fields |= {"evidence": dict(fields["evidence"]), "says": dict(fields["says"])}
        fields |= {"key": key_of(fields["key"]), "names": tuple(fields["names"])}
        fields["parent_key"] = None if fields["parent_key"] is None else key_of(fields["parent_key"])
        return cls(**fields)


@dataclass(slots=True)
class Run:
    """Raises of one code and subject, each within an hour of the one before; `change` is the last of the
    first finding, as far as that is cleared."""

    finding_id: str
    start: int
    raised_ns: int
    times: int = 1
    change: int = 0


class Runs:
    """What was raised again and again.

    Parameters
    ----------
    again_ns : int
        Two raises further apart belong to two runs.
    least : int
        Raises from which on the run is one finding.
    most : int
        Runs remembered; beyond, the one that was raised longest ago is forgotten.
    """

    def __init__(
        self, again_ns: int, least: int, most: int, resume_state: list[list[Any]] | None = None
    ) -> None:
        self._again_ns, self._least, self._most = again_ns, least, most
        self._runs = {key_of(key): Run(*values) for key, *values in resume_state or []}

    def raised(self, key: Key, finding_id: str, start: int, effect_ns: int) -> Run | None:
        """Count a raise; return its run, None while that is too short to be one finding."""
        run = self._runs.pop(key, None)
        if run is None or effect_ns - run.raised_ns > self._again_ns:
            run = Run(finding_id, start, effect_ns)
        else:
            run.times += 1
            run.raised_ns = effect_ns
        self._runs[key] = run
        if len(self._runs) > self._most:
            del self._runs[next(iter(self._runs))]
        return run if run.times >= self._least else None

    def cleared(self, finding: Finding) -> None:
        """Remember how many changes the first finding of a run has."""
        run = self._runs.get(finding.key)
        if run is not None and run.finding_id == finding.finding_id:
            run.change = finding.change

    def snapshot(self) -> list[list[Any]]:
        """Return plain data, copied."""
        return [
            [list(k), r.finding_id, r.start, r.raised_ns, r.times, r.change] for k, r in self._runs.items()
        ]


def key_of(values: list[Any]) -> Key:
    """Return a key from what a snapshot has of it."""
    return (values[0], values[1], values[2], values[3], values[4])
