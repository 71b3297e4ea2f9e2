"""From emissions to findings: identity, parents, joined sources, backlog, and one record per change of
state.

A finding is open for a subject and a code (for `station_reported` also the station's own code). What
several sources say of one code and subject is one finding: the first source keeps its name, evidence is
of all (``sources`` names them), and it clears when all of them took it back. What is raised again and
again, each time within an hour, is one finding from the third time on: the first one's, with the count in
its evidence (``raised_times``). A finding with an open parent is recorded with `parent` set and not raised:
nobody is told. When the parent is gone and the child still stands after `orphan_s` of journaled time, it is
raised. Findings of backlog are recorded with ``live`` false and never open; one that turns out to still
hold is raised live under the same identity.

The manager sees emissions and the journal's clock in order of effect only, so any split into batches
gives the same changes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Any, Final

import numpy as np

from ._finding import Finding, Key, Runs, key_of
from ._finding_subjects import Subjects, around, identity
from .batch import MessageColumns
from .detecting import CLEAR, RAISE, Emission, Observed
from .errors import ConfigError, SnapshotError
from .faults import PARENTS
from .outputs import FindingChange
from .units import NS_PER_MS, NS_PER_S

VERSION: Final = 2

_PARENT_CODES: Final = frozenset(parent for parents in PARENTS.values() for parent in parents)


@dataclass(frozen=True, slots=True)
class FindingsConfig:
    """How findings are kept.

    Attributes
    ----------
    update_s : float
        Least time between two updates of a finding that change its score only. Unit: s. Default 900.
    update_share : float
        Change of the score that is worth an update. Unit: 1. Default 0.25.
    adopt_s : float
        A parent takes what began this long before it, or later, and stands as its child. Unit: s. Default 60:
        children are decided by other means, so one may come first.
    orphan_s : float
        A child that still stands this long after its parent cleared is raised. Unit: s. Default 1500:
        a mean over ten minutes recovers in up to two windows, and is told of late with its last reading.
    remembered : int
        Cleared findings whose number of changes is remembered, in case the same one comes again. Unit:
        findings. Default 4096.
    again_s : float
        Raised again within this time it belongs to the same run. Unit: s. Default 3600. Source: an hour, as
        for `flapping`.
    again_least : int
        Raises of a run from which on they are one finding. Unit: raises. Default 3.
    """

    update_s: float = 900.0
    update_share: float = 0.25
    adopt_s: float = 60.0
    orphan_s: float = 1500.0
    remembered: int = 4096
    again_s: float = 3600.0
    again_least: int = 3

    def __post_init__(self) -> None:
        lowest = {"again_least": 2}
        for name in (f.name for f in fields(self)):
            low = lowest.get(name, 0)
            if getattr(self, name) < low:
                raise ConfigError(
                    f"[findings] {name} = {getattr(self, name)!r}: expected a number from {low:g}"
                )


class FindingsManager:
    """Findings of one shard.

    Parameters
    ----------
    config : FindingsConfig, optional
    resume_state : dict, optional
        What `snapshot` returned.
    """

    def __init__(
        self, config: FindingsConfig | None = None, resume_state: dict[str, Any] | None = None
    ) -> None:
        self.config = config or FindingsConfig()
        self._found: dict[Key, Finding] = {}
        self._children: dict[Key, list[Key]] = {}  # parent -> those it keeps quiet
        self._orphans: dict[Key, int] = {}
        self._counted: dict[str, int] = {}  # changes of cleared findings
        self._changes: list[FindingChange] = []
        self._shard = 0
        self._subjects = Subjects()
        self._runs = self._make_runs()
        if resume_state is not None:
            self._load(resume_state)

    def _make_runs(self, state: list[list[Any]] | None = None) -> Runs:
        config = self.config
        return Runs(round(config.again_s * NS_PER_S), config.again_least, config.remembered, state)

    def apply(self, emissions: list[Emission], seen: Observed, shard: int) -> list[FindingChange]:
        """Return what changes, in order.

        Parameters
        ----------
        emissions : list of Emission
            Of one batch, all detectors, any order.
        seen : Observed
            The same batch: its messages and ticks are the clock.
        shard : int
        """
        self._shard = shard
        self._subjects.learn(seen)
        for at, emission in self._steps(emissions, seen.messages):
            if emission is None:
                self._raise_orphans(at)
            else:
                self._take(emission)
        changes, self._changes = self._changes, []
        return changes

    def open(self) -> list[str]:
        """Return the ids of findings that are open: live and not kept quiet by a parent."""
        return [f.finding_id for f in self._found.values() if f.live and f.parent is None]

    def _steps(
        self, emissions: list[Emission], messages: MessageColumns
    ) -> Iterator[tuple[tuple[int, int], Emission | None]]:
        """Yield emissions in order, and the moments at which orphans may be due between them."""
        at = 0
        for emission in sorted(emissions, key=self._subjects.sort_key):
            stop = int(np.searchsorted(messages.order, emission.order, side="left"))
            while (due := self._due(messages, at, stop)) < stop:
                yield (int(messages.order[due]), int(messages.effect_ns[due])), None
                at = due + 1
            at = max(at, stop)
            yield (emission.order, emission.effect_ns), emission
        stop = len(messages)
        while (due := self._due(messages, at, stop)) < stop:
            yield (int(messages.order[due]), int(messages.effect_ns[due])), None
            at = due + 1

    def _due(self, messages: MessageColumns, start: int, stop: int) -> int:
        """Return the first message from `start` at whose time an orphan is due, `stop` when none is.

        Orphans are rare, messages are not: they are searched, not walked.
        """
        if not self._orphans:
            return stop
        earliest = min(self._orphans.values())
        return min(stop, start + int(np.searchsorted(messages.effect_ns[start:stop], earliest, side="left")))

    def _take(self, e: Emission) -> None:
        own = e.taxonomy or "" if e.code == "station_reported" else ""
        scope, subject = self._subjects.key(e)
        live_key: Key = (e.code, scope, subject, own, True)
        backlog_key: Key = (e.code, scope, subject, own, False)
        if e.kind == RAISE:
            self._raise(e, live_key, backlog_key)
            return
        for key in (live_key, backlog_key):
            finding = self._found.get(key)
            if finding is None or not finding.says.get(_who(e, finding.key)):
                continue
            if e.kind == CLEAR:
                self._take_back(finding, e)
            else:
                self._update(finding, e)

    def _raise(self, e: Emission, live_key: Key, backlog_key: Key) -> None:
        key = live_key if e.live else backlog_key
        start = e.start_ns // NS_PER_MS
        finding = self._found.get(key)
        earlier = self._found.get(backlog_key) if e.live else None
        if finding is not None:
            self._join(finding, e)
        elif earlier is not None and earlier.start == start:
            # what was found in backlog still holds: the same finding, now live
            del self._found[backlog_key]
            earlier.key, earlier.live = live_key, True
            earlier.raised_at = e.effect_ns // NS_PER_MS
            self._merge(earlier, e)
            self._found[live_key] = earlier
            self._adopt(earlier)
            self._record(earlier, "raised", e.order, e.effect_ns)
            self._gather(earlier, e)
            return
        else:
            self._new(e, key, start)
        if earlier is not None and earlier.says.get(_who(e, earlier.key)):
            self._take_back(earlier, e)

    def _new(self, e: Emission, key: Key, start: int) -> None:
        scope, names = self._subjects.names_of(e)
        finding_id = identity(names, e.code, start)
        run = self._runs.raised(key, finding_id, start, e.effect_ns) if e.live else None
        change = self._counted.pop(finding_id, 0)
        if run is not None:
            finding_id, start = run.finding_id, run.start
            change = self._counted.pop(finding_id, run.change)
        finding = Finding(
            finding_id,
            key,
            names,
            scope,
            e.connector,
            e.severity,
            e.source,
            e.live,
            e.planned,
            e.effect_ns // NS_PER_MS,
            start,
            e.time_ns // NS_PER_MS,
            e.score,
            dict(e.evidence),
            e.taxonomy,
            None,
            change,
            e.effect_ns,
        )
        finding.heard(_who(e, key))
        if run is not None:
            finding.evidence["raised_times"] = run.times
        self._found[key] = finding
        if e.live:
            self._adopt(finding)
        self._record(finding, "raised", e.order, e.effect_ns)
        if e.live:
            self._gather(finding, e)

    def _gather(self, parent: Finding, e: Emission) -> None:
        """Put under a parent that is raised just now what was raised before it and is its child."""
        code, scope, subject = parent.key[:3]
        if code not in _PARENT_CODES or parent.parent is not None:
            return
        oldest = parent.start - round(self.config.adopt_s * 1000)
        mine = [
            child
            for child in self._found.values()
            if code in PARENTS.get(child.key[0], ())
            and child.live
            and child.parent is None
            and child.start >= oldest
            and child is not parent
            and (scope, subject) in list(around(child.key[1], child.key[2], self._subjects.devices))
            and (code, scope) != child.key[:2]
        ]
        for child in sorted(mine, key=lambda child: (child.key[0], child.finding_id)):
            child.parent, child.parent_key = parent.finding_id, parent.key
            self._children.setdefault(parent.key, []).append(child.key)
            self._record(child, "updated", e.order, e.effect_ns)

    def _adopt(self, finding: Finding) -> None:
        """Give a finding its open parent, if it has one."""
        code, scope, subject = finding.key[:3]
        for parent_code in PARENTS.get(code, ()):
            for wider, row in around(scope, subject, self._subjects.devices):
                if (parent_code, wider) == (code, scope):
                    continue
                parent_key: Key = (parent_code, wider, row, "", True)
                parent = self._found.get(parent_key)
                if parent is not None:
                    finding.parent, finding.parent_key = parent.finding_id, parent_key
                    self._children.setdefault(parent_key, []).append(finding.key)
                    return

    def _merge(self, finding: Finding, e: Emission) -> None:
        finding.evidence |= e.evidence
        finding.heard(_who(e, finding.key))
        finding.last = max(finding.last, e.time_ns // NS_PER_MS)
        finding.severity = max(finding.severity, e.severity)
        finding.score = max(finding.score, e.score) if len(finding.says) > 1 else e.score
        finding.taxonomy = finding.taxonomy or e.taxonomy
        finding.connector = e.connector if finding.connector is None else finding.connector

    def _join(self, finding: Finding, e: Emission) -> None:
        """Another source says the same, or one of them again."""
        fresh = not finding.says.get(_who(e, finding.key))
        before = finding.severity
        self._merge(finding, e)
        if fresh or finding.severity != before:
            self._record(finding, "updated", e.order, e.effect_ns)

    def _update(self, finding: Finding, e: Emission) -> None:
        alone = sum(finding.says.values()) == 1
        severity = e.severity if alone else max(finding.severity, e.severity)
        changed = severity != finding.severity or e.planned != finding.planned
        moved = abs(e.score - finding.score) > self.config.update_share * abs(finding.score)
        waited = e.effect_ns - finding.changed_ns >= self.config.update_s * NS_PER_S
        finding.last = max(finding.last, e.time_ns // NS_PER_MS)
        if changed or (moved and waited):
            finding.severity, finding.planned, finding.score = severity, e.planned, e.score
            finding.evidence |= e.evidence
            self._record(finding, "updated", e.order, e.effect_ns)

    def _take_back(self, finding: Finding, e: Emission) -> None:
        """One source says it is over; when all do, the finding is cleared."""
        finding.says[_who(e, finding.key)] = False
        if e.kind == CLEAR:
            finding.last = max(finding.last, e.time_ns // NS_PER_MS)
            finding.evidence |= e.evidence
        if any(finding.says.values()):
            return
        del self._found[finding.key]
        self._orphans.pop(finding.key, None)
        if finding.parent_key is not None:
            children = self._children.get(finding.parent_key, [])
            if finding.key in children:
                children.remove(finding.key)
        self._record(finding, "cleared", e.order, e.effect_ns, end=max(finding.start, finding.last))
        for child_key in self._children.pop(finding.key, []):
            self._orphans[child_key] = e.effect_ns + round(self.config.orphan_s * NS_PER_S)
        self._counted[finding.finding_id] = finding.change
        self._runs.cleared(finding)
        if len(self._counted) > self.config.remembered:
            del self._counted[next(iter(self._counted))]

    def _raise_orphans(self, at: tuple[int, int]) -> None:
        """Raise children that outlasted their parents, unless another parent is open by now."""
        for key in [k for k, due_ns in self._orphans.items() if due_ns <= at[1]]:
            del self._orphans[key]
            child = self._found[key]
            child.parent = child.parent_key = None
            self._adopt(child)
            if child.parent is None:
                child.raised_at = at[1] // NS_PER_MS
            self._record(child, "raised" if child.parent is None else "updated", at[0], at[1])

    def _record(
        self, finding: Finding, state: str, order: int, effect_ns: int, end: int | None = None
    ) -> None:
        self._changes.append(finding.told(state, self._shard, order, effect_ns, end))

    def snapshot(self) -> dict[str, Any]:
        """Return the whole state as plain data, copied."""
        return {
            "version": VERSION,
            "found": [finding.snapshot() for finding in self._found.values()],
            "children": [[list(k), [list(c) for c in kids]] for k, kids in self._children.items()],
            "orphans": [[list(k), due_ns] for k, due_ns in self._orphans.items()],
            "counted": [[k, n] for k, n in self._counted.items()],
            "runs": self._runs.snapshot(),
            "subjects": self._subjects.snapshot(),
        }

    def _load(self, state: dict[str, Any]) -> None:
        if state.get("version") != VERSION:
            raise SnapshotError(
                f"findings have version {state.get('version')!r}, this program reads {VERSION};"
                " start without saved state, or with the program that wrote it"
            )
        for values in state["found"]:
            finding = Finding.restore(values)
            self._found[finding.key] = finding
        self._children = {key_of(k): [key_of(c) for c in kids] for k, kids in state["children"]}
        self._orphans = {key_of(k): due_ns for k, due_ns in state["orphans"]}
        self._counted = dict(state["counted"])
        self._runs = self._make_runs(state["runs"])
        self._subjects = Subjects(state["subjects"])


def _who(e: Emission, key: Key) -> str:
    """Return who speaks: the source, with its scope where that is not the finding's.

    Of several detectors of one source and code all but one name themselves in their evidence.
    """
    parts = [e.source, *([] if e.scope == key[1] else [e.scope]), *_named(e)]
    return ":".join(parts)


def _named(e: Emission) -> list[str]:
    name = e.evidence.get("detector")
    return [name] if isinstance(name, str) else []
