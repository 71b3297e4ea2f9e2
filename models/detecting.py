"""The contract between the detect stage and every detector plug-in.

A plug-in is a file ``models/detectors/<code>.py`` with

- ``SPEC``: a `DetectorSpec`;
- ``Config``: a frozen dataclass of thresholds, each with its unit in the name, default and source;
- ``build(config, resume_state=None) -> Detector``.

A detector sees the stream as a sequence of `Observed` batches. How the stream is cut into batches
must not matter: output depends on readings per EVSE in order, messages and records in `order`
only. It answers with `Emissions`: raise, update and clear of its condition per subject. Parents,
identities, acknowledgement and notification are the findings manager's affair (`models.findings`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final, Literal, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from .batch import F64, I8, I32, I64, U8, MessageColumns, ReadingBatch
from .devices import DeviceTable
from .records import Record

EVIDENCE_WIDTH: Final = 6

# Emission kinds
RAISE: Final = 1
UPDATE: Final = 2
CLEAR: Final = 3

# Severities
INFO: Final = 0
WARNING: Final = 1
CRITICAL: Final = 2
SEVERITIES: Final = ("info", "warning", "critical")

Scope = Literal["evse", "station", "node", "site"]
SCOPES: Final[tuple[Scope, ...]] = ("evse", "station", "node", "site")
Source = Literal["station", "rule", "statistical", "learned"]


@dataclass(frozen=True, slots=True)
class DetectorSpec:
    """What a detector is, for the catalogue, the docs and the laws.

    Attributes
    ----------
    code : str
        Finding code; equals the plug-in's file name unless one plug-in serves several codes.
    scope : str
        What its emissions' subject rows index: EVSE, station, node or site rows.
    source : str
        How it decides.
    channels : tuple of int
        Channel ids it reads; it is skipped for batches that have none of them when
        `needs_channels` is true.
    evidence : tuple of str
        Names of the evidence columns it fills, unit last, at most `EVIDENCE_WIDTH`.
    nan_rule : str
        What a missing value means to it, for the laws: ``ignore`` (the reading says nothing of
        that channel).
    peers : bool
        It compares with other EVSEs of the site: what it says of one depends on all of them.
    """

    code: str
    scope: Scope
    source: Source
    channels: tuple[int, ...] = ()
    evidence: tuple[str, ...] = ()
    needs_channels: bool = False
    nan_rule: Literal["ignore"] = "ignore"
    peers: bool = False


@dataclass(slots=True)
class Observed:
    """One batch of a shard's stream as detectors see it.

    `records` are sorted by their order of effect; readings are grouped by EVSE (see
    `ReadingBatch`), and `messages` holds every message and tick.
    """

    devices: DeviceTable
    rows: ReadingBatch
    messages: MessageColumns
    records: list[Record]


class EmissionArrays(NamedTuple):
    """The arrays behind `Emissions`, in the shape that kernels take.

    ``used`` has shape (1,): emissions written so far. A kernel that finds no room left returns
    the index of the reading it could not process, with that reading's state untouched; the wrapper
    calls `Emissions.grow` and goes on from there.
    """

    used: I64
    order: I64
    effect_ns: I64
    subject: I32
    kind: I8
    severity: I8
    live: U8
    start_ns: I64
    time_ns: I64
    score: F64
    evidence: F64  # shape (capacity, EVIDENCE_WIDTH), NaN = not given


def _arrays(capacity: int) -> EmissionArrays:
    return EmissionArrays(
        np.zeros(1, np.int64),
        np.zeros(capacity, np.int64),
        np.zeros(capacity, np.int64),
        np.zeros(capacity, np.int32),
        np.zeros(capacity, np.int8),
        np.zeros(capacity, np.int8),
        np.ones(capacity, np.uint8),
        np.zeros(capacity, np.int64),
        np.zeros(capacity, np.int64),
        np.zeros(capacity, np.float64),
        np.full((capacity, EVIDENCE_WIDTH), np.nan),
    )


class Emission(NamedTuple):
    """One emission as the findings manager reads it."""

    order: int
    effect_ns: int
    code: str
    scope: Scope
    source: Source
    subject: int
    kind: int
    severity: int
    live: bool
    start_ns: int
    time_ns: int
    score: float
    evidence: dict[str, Any]
    connector: int | None
    taxonomy: str | None
    planned: bool


@dataclass(slots=True)
class Emissions:
    """Collects what detectors emit; columns for kernels, `add` for Python."""

    arrays: EmissionArrays = field(default_factory=lambda: _arrays(256))
    _out: list[Emission] = field(default_factory=list)

    def grow(self) -> None:
        """Double the room of the arrays, keeping what they hold."""
        old = self.arrays
        new = _arrays(2 * len(old.order))
        arrays: list[tuple[NDArray[Any], NDArray[Any]]] = list(zip(old, new, strict=True))
        for before, after in arrays:
            after[: len(before)] = before
        self.arrays = new

    def add(
        self,
        spec: DetectorSpec,
        *,
        order: int,
        effect_ns: int,
        subject: int,
        kind: int,
        severity: int,
        start_ns: int,
        time_ns: int,
        live: bool = True,
        score: float = 1.0,
        evidence: dict[str, Any] | None = None,
        code: str | None = None,
        scope: Scope | None = None,
        source: Source | None = None,
        connector: int | None = None,
        taxonomy: str | None = None,
        planned: bool = False,
    ) -> None:
        """Add one emission from Python; `code`, `scope` and `source` default to the spec's."""
        self._out.append(
            Emission(
                order,
                effect_ns,
                code or spec.code,
                scope or spec.scope,
                source or spec.source,
                subject,
                kind,
                severity,
                live,
                start_ns,
                time_ns,
                score,
                evidence or {},
                connector,
                taxonomy,
                planned,
            )
        )

    def collect(self, spec: DetectorSpec) -> None:
        """Move what a kernel wrote to the arrays into the list, under `spec`'s code."""
        a = self.arrays
        n = int(a.used[0])
        if n == 0:
            return
        for i in range(n):
            evidence = {
                name: round(value, 6)
                for name, value in zip(spec.evidence, a.evidence[i].tolist(), strict=False)
                if value == value
            }
            self._out.append(
                Emission(
                    int(a.order[i]),
                    int(a.effect_ns[i]),
                    spec.code,
                    spec.scope,
                    spec.source,
                    int(a.subject[i]),
                    int(a.kind[i]),
                    int(a.severity[i]),
                    bool(a.live[i]),
                    int(a.start_ns[i]),
                    int(a.time_ns[i]),
                    float(a.score[i]),
                    evidence,
                    None,
                    None,
                    False,
                )
            )
        a.used[0] = 0
        a.evidence[:n] = np.nan

    def drain(self) -> list[Emission]:
        """Return all emissions sorted by (order, code, scope, subject) and forget them."""
        out, self._out = self._out, []
        out.sort(key=lambda e: (e.order, e.effect_ns, e.code, e.scope, e.subject, e.time_ns, e.kind))
        return out


class Detector(Protocol):
    """What `build` of a plug-in returns."""

    def process(self, seen: Observed, out: Emissions) -> None:
        """Take in one batch and emit what changed."""

    def snapshot(self) -> dict[str, Any]:
        """Return the whole state as plain data (arrays, numbers, strings), copied."""

    def nbytes(self) -> int:
        """Return the bytes of state held."""


class Timeline(NamedTuple):
    """The key columns of a `ReadingBatch`, as kernels take them."""

    evse: I32
    time_ns: I64
    order: I64
    effect_ns: I64
    state: NDArray[np.int16]
    live: U8


def timeline(rows: ReadingBatch) -> Timeline:
    """Return the key columns of `rows`."""
    return Timeline(rows.evse, rows.time_ns, rows.order, rows.effect_ns, rows.state, rows.live)
