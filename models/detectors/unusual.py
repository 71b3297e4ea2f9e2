"""Unlike its own history: a channel far outside every value it ever had, or in a shape it never had.

Two families, each with a list of channels. *Levels*: a value, or its running mean, lies outside everything
before by `excess_ranges` of the range seen so far, once the channel was known for `learn_s` and
`learn_samples`. So that a channel that stood still may move, the range counts as at least `least_share` of
the greatest magnitude seen; where zero is a convention (temperatures, levels in dB), as at least
`least_step`. *Shapes*: the course of the last eight samples, one per `shape_s` of event time, is
like nothing before (`models.learned.shapes`), with a score of at least `shape_score`.

One reading is enough: what was seen once is history from then on. The finding clears `hold_s` after the last
unusual reading. Changing the lists starts the history of all channels afresh.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar, NamedTuple

import numpy as np

from models._kernel import kernel
from models.batch import F64, I16, ReadingBatch
from models.channels import CHANNEL_ID, CHANNELS
from models.detecting import (
    CLEAR,
    INFO,
    DetectorSpec,
    EmissionArrays,
    Emissions,
    Observed,
    Timeline,
    timeline,
)
from models.devices import DeviceTable
from models.errors import ConfigError
from models.learned.shapes import Nets, Shape, blank_nets, load_nets, saved_nets
from models.learned.vigilance import ensemble_step

from ._base import Table, ns, require, slots
from ._kernels import NOTHING, ROOM, Lasting, emit
from ._slim import SLIM_BLANK, SLIM_FIELDS, slim_watch
from ._sparse import Sparse, SparseDetector, find, full, give, take
from ._unusual import (
    BLOCK_BLANK,
    BLOCK_FIELDS,
    LEVEL_BLANK,
    LEVEL_FIELDS,
    Least,
    Levels,
    least,
    level_step,
    take_sample,
)

_DEFAULT = "Temperature/Cable"
SPEC = DetectorSpec(
    "unusual",
    "evse",
    "statistical",
    (CHANNEL_ID[_DEFAULT],),
    ("channel", "value", "score", "level", "usual_low", "usual_high"),
    needs_channels=True,
)
_SHAPE = Shape(64, 64)
_WIDEN = 0.5


@dataclass(frozen=True, slots=True)
class Config:
    """What `unusual` judges, and from when.

    Attributes
    ----------
    levels : str
        Channels judged by levels, spaces between them. Unit: channel names. Default Temperature/Cable.
        Source: slow, and with a fault that shows as a value never seen.
    shapes : str
        Channels judged by shapes. Unit: channel names. Default none. Source: 10 kB of state a channel and
        EVSE, beyond the usual budget: where it is worth it.
    learn_s : float
        A channel is judged by levels once it is known for this long. Unit: s. Default 1209600. Source: two
        weeks hold both kinds of days, and sessions.
    learn_samples : int
        And for this many values. Unit: values. Default 1000. Source: a site of 900 s has them in 11 days.
    excess_ranges : float
        Excess that is unusual. Unit: 1 (ranges seen so far). Default 1. Source: a heat wave and a full load
        on an idle station stay below the double of what two weeks showed.
    least_share : float
        Least range of channels with a true zero, as a share of the greatest magnitude. Unit: 1. Default 0.2.
        Source: a sensor at rest.
    least_step : float
        Least range of temperatures and levels in dB, whose zero is a convention: a magnitude would judge them
        otherwise in kelvin. Unit: K, dB. Default 10. Source: the same share of a cable at 50 degrees.
    mean_s : float
        Time constant of the running mean. Unit: s. Default 600. Source: ten-minute means are usual.
    shape_s : float
        Time of one sample of a shape. Unit: s. Default 300. Source: eight samples are most of a session.
    shape_score : float
        Score that is unusual. Unit: 1. Default 0.45. Source: best on public series
        (docs/detection-general.md).
    hold_s : float
        Clear after this long with nothing unusual. Unit: s. Default 3600. Source: one session, one finding.
    """

    levels: str = _DEFAULT
    shapes: str = ""
    learn_s: float = 1_209_600.0
    learn_samples: int = 1000
    excess_ranges: float = 1.0
    least_share: float = 0.2
    least_step: float = 10.0
    mean_s: float = 600.0
    shape_s: float = 300.0
    shape_score: float = 0.45
    hold_s: float = 3600.0

    def __post_init__(self) -> None:
        channels(self.levels, "levels")
        channels(self.shapes, "shapes")
        require(
            self,
            "levels",
            "shapes",
            learn_s=(0.0, 31_622_400.0),
            learn_samples=(1, 10_000_000),
            excess_ranges=(0.01, 1000.0),
            least_share=(0.0, 10.0),
            least_step=(0.0, 1000.0),
            mean_s=(0.0, 86_400.0),
            shape_s=(1.0, 86_400.0),
            shape_score=(0.0, 1.0),
            hold_s=(1.0, 86_400.0),
        )


def channels(text: str, key: str) -> tuple[int, ...]:
    """Return the channel ids of a list of names.

    Raises
    ------
    ConfigError
        If one is no channel, or stands there twice.
    """
    names = text.split() if isinstance(text, str) else [repr(text)]
    wrong = [n for n in names if n not in CHANNEL_ID] or [n for n in names if names.count(n) > 1]
    if wrong:
        raise ConfigError(
            f"[detectors.unusual] {key} = {text!r}: expected names of channels, each once, spaces between"
            f" them (not {wrong[0]})"
        )
    return tuple(CHANNEL_ID[name] for name in names)


class _Channels(NamedTuple):
    """Which columns to judge, and whose state: EVSE e, channel j is record e x count + j."""

    values: F64
    level_slots: I16
    shape_slots: I16
    levels: Any
    blocks: Any
    least: Least


class _Limits(NamedTuple):
    levels: Levels
    shape_ns: int
    shape_score: float


class _Found(NamedTuple):
    """The most unusual channel of a reading: (column in the lists, -1 none), evidence."""

    at: Any  # (1,) int64
    evidence: F64  # value, score, level, low, high, and how often the level is reached


@kernel
def _levels(e: int, i: int, t: int, seen: _Channels, rule: Levels, found: _Found) -> bool:
    """Judge a reading by levels; return whether it has a value, the most unusual one in `found`."""
    any_value, n = False, len(seen.level_slots)
    for j in range(n):
        slot = seen.level_slots[j]
        if slot < 0 or not abs(seen.values[slot, i]) < np.inf:
            continue
        any_value = True
        rec = seen.levels[e * n + j]
        low, high = rec["low"], rec["high"]
        ranges = level_step(rec, seen.values[slot, i], t, rule, seen.least.share[j], seen.least.width[j])
        share = ranges / rule.excess
        if share >= 1.0 and share >= found.evidence[5]:
            found.at[0] = j
            found.evidence[0], found.evidence[1] = seen.values[slot, i], share * rule.excess
            found.evidence[2], found.evidence[3], found.evidence[4] = rule.excess, low, high
            found.evidence[5] = share
    return any_value


@kernel
def _samples(e: int, i: int, t: int, seen: _Channels, shape_ns: int) -> int:
    """Add a reading to the samples of its channels; return 0 no value, 1 some, 2 a sample was finished."""
    any_value, n = 0, len(seen.shape_slots)
    for j in range(n):
        slot = seen.shape_slots[j]
        rec = seen.blocks[e * n + j]
        rec["ready"] = 0
        if slot < 0 or not abs(seen.values[slot, i]) < np.inf:
            continue
        any_value = max(any_value, 1)
        if take_sample(rec, seen.values[slot, i], t // shape_ns):
            rec["ready"] = 1
            any_value = 2
    return any_value


@kernel
def _shapes(e: int, seen: _Channels, nets: Nets, level: float, found: _Found) -> None:
    """Judge the samples that were finished: rarely called, so that few readings pay for its arguments."""
    n = len(seen.shape_slots)
    for j in range(n):
        rec = seen.blocks[e * n + j]
        if rec["ready"] == 0:
            continue
        score = ensemble_step(nets, e * n + j, 1, rec["sample"], rec["sample_low"], rec["sample_high"])
        share = score / level
        if score > 0.0 and share >= 1.0 and share >= found.evidence[5]:
            found.at[0] = len(seen.level_slots) + j
            found.evidence[0], found.evidence[1], found.evidence[2] = rec["sample"], score, level
            found.evidence[3] = found.evidence[4] = np.nan
            found.evidence[5] = share


@kernel
def _unusual_kernel(
    start: int,
    time: Timeline,
    seen: _Channels,
    nets: Nets,
    sparse: Sparse,
    limits: _Limits,
    rule: Lasting,
    found: _Found,
    out: EmissionArrays,
) -> int:
    n, room = len(time.evse), len(out.order) - ROOM
    for i in range(start, n):
        if out.used[0] > room or full(sparse):
            return i
        e, t = time.evse[i], time.time_ns[i]
        found.at[0], found.evidence[5] = -1, 0.0
        any_value = _levels(e, i, t, seen, limits.levels, found)
        if len(seen.shape_slots) > 0:
            samples = _samples(e, i, t, seen, limits.shape_ns)
            any_value = any_value or samples > 0
            if samples == 2:
                _shapes(e, seen, nets, limits.shape_score, found)
        if not any_value:
            continue
        at = find(sparse, e)
        level = 1 if found.at[0] >= 0 else 0
        if level == 0 and at == 0:
            continue
        if at == 0:
            at = take(sparse, e)
        rec = sparse.records[at]
        kind = slim_watch(rec, t, level != 0, time.live[i], rule)
        if kind == NOTHING:
            continue
        end = rec["mark_ns"] if kind == CLEAR else t
        score = 1.0 if kind == CLEAR else found.evidence[5]
        j = emit(
            out, e, kind, INFO, rec["live"], rec["since_ns"], end, time.order[i], time.effect_ns[i], score
        )
        if kind != CLEAR:
            out.evidence[j, 0] = found.at[0]
            for k in range(5):
                out.evidence[j, 1 + k] = found.evidence[k]
        else:
            give(sparse, e)
    return n


class _Detector(SparseDetector):
    spec = SPEC
    version = 4
    sparse_dtype: ClassVar[list[Any]] = SLIM_FIELDS
    sparse_blank: ClassVar[dict[str, Any]] = SLIM_BLANK

    def __init__(self, config: Config, resume_state: dict[str, Any] | None) -> None:
        self._lists = (channels(config.levels, "levels"), channels(config.shapes, "shapes"))
        self.spec = replace(SPEC, channels=tuple(dict.fromkeys(self._lists[0] + self._lists[1])))
        self._names = [CHANNELS[c].name for part in self._lists for c in part]
        self._limits = _Limits(
            Levels(
                ns(config.learn_s),
                int(config.learn_samples),
                float(config.excess_ranges),
                float(ns(config.mean_s)),
            ),
            ns(config.shape_s),
            float(config.shape_score),
        )
        self._least = least(self._lists[0], float(config.least_share), float(config.least_step))
        self._rule = Lasting(0, 1, ns(config.hold_s), ns(config.hold_s))
        self._found = _Found(np.zeros(1, np.int64), np.zeros(6))
        self._raw = Emissions()
        self._levels = Table(LEVEL_FIELDS, LEVEL_BLANK)
        self._blocks = Table(BLOCK_FIELDS, BLOCK_BLANK)
        self._nets = blank_nets(0, _SHAPE, np.zeros(0))
        super().__init__(resume_state)
        same = resume_state is not None and resume_state["channels"] == self._channel_text()
        if resume_state is not None and same:
            self._levels.load(resume_state["levels"], SPEC.code)
            self._blocks.load(resume_state["blocks"], SPEC.code)
            self._reserve_nets(len(resume_state["nets"]["widen"]))
            load_nets(self._nets, resume_state["nets"])

    def _channel_text(self) -> str:
        return ", ".join("/".join(str(c) for c in part) for part in self._lists)

    def _reserve_nets(self, n: int) -> None:
        have = len(self._nets.rec)
        if n > have:
            more = blank_nets(max(n, 2 * have), _SHAPE, np.full(max(n, 2 * have), _WIDEN))
            load_nets(more, saved_nets(self._nets))
            self._nets = more

    def _run(self, start: int, rows: ReadingBatch, devices: DeviceTable, out: EmissionArrays) -> int:
        seen = _Channels(
            rows.values,
            slots(rows, self._lists[0]),
            slots(rows, self._lists[1]),
            self._levels.rows,
            self._blocks.rows,
            self._least,
        )
        return int(
            _unusual_kernel(
                start,
                timeline(rows),
                seen,
                self._nets,
                self.sparse.arrays,
                self._limits,
                self._rule,
                self._found,
                out,
            )
        )

    def process(self, seen: Observed, out: Emissions) -> None:
        """Take in one batch and emit what changed, channels by their names."""
        n = seen.devices.n_evses
        self._levels.reserve(n * len(self._lists[0]))
        self._blocks.reserve(n * len(self._lists[1]))
        self._reserve_nets(n * len(self._lists[1]))
        super().process(seen, self._raw)
        for e in self._raw.drain():
            evidence = dict(e.evidence)
            if "channel" in evidence:
                evidence["channel"] = self._names[int(evidence["channel"])]
            out.add(
                self.spec,
                order=e.order,
                effect_ns=e.effect_ns,
                subject=e.subject,
                kind=e.kind,
                severity=e.severity,
                start_ns=e.start_ns,
                time_ns=e.time_ns,
                live=e.live,
                score=e.score,
                evidence=evidence,
            )

    def snapshot(self) -> dict[str, Any]:
        """Return the whole state as plain data, copied."""
        n = self._blocks.n
        nets = {name: values[:n] for name, values in saved_nets(self._nets).items()}
        return super().snapshot() | {
            "channels": self._channel_text(),
            "levels": self._levels.columns(),
            "blocks": self._blocks.columns(),
            "nets": nets,
        }

    def nbytes(self) -> int:
        """Return the bytes of state held."""
        n, nets = self._blocks.n, saved_nets(self._nets)
        return (
            super().nbytes()
            + self._levels.nbytes
            + self._blocks.nbytes
            + sum(int(values[:n].nbytes) for values in nets.values())
        )


def build(config: Config, resume_state: dict[str, Any] | None = None) -> SparseDetector:
    """Return the detector, with the state of `resume_state` if given."""
    return _Detector(config, resume_state)
