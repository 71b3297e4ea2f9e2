"""The supply sags more per ampere than it used to: a terminal, fuse or joint before the EVSE goes bad.

At each step of the EVSE's own current the voltage answers with -dV/dI, the resistance of all that lies
between the grid and its meter. A step is a change of a phase current by 6 A between two readings at most
300 s apart, taken when the current has settled, or after 15 s. The rest of the site is separated by
quietness: a step counts only if the currents of all other EVSEs of the site, as told from the message
before the step to the one after it, changed by less than a quarter of it in sum. A timer that starts all
cars at once therefore says nothing.

Each phase has two baselines, for steps of all phases alike and for others, since a single-phase car also
loads the neutral. For that reason steps of all phases alike see no more resistance than others do, and as
long as their own baseline is unknown they are held against that of the others; those that look like a fault
teach nothing. A baseline is the median of the first five steps and then follows sound ones by 1/64. The test
is a cumulative sum of log-likelihood ratios between the baseline and the limit, the greater of 1.5 x baseline
and baseline + 0.1 ohm, with normal errors of the voltage (0.4 V, and 0.07 V per root of the seconds between
the two readings); one step adds at most a third of the threshold, so that it takes three. By Lorden's bound
the mean number of steps between two false alarms is at least exp(11.5) = 100,000: 13 years at 20 steps a day.
It is raised when the threshold is reached and the mean of the last steps is at the limit; the same sum the
other way clears. A finding of single-phase cars is not cleared by steps of all phases alike unless they see
less than single-phase cars did before it.

Steps in backlog, and those of DC EVSEs, whose grid current is not measured, are not judged; nor are periods
above 300 s, over which the grid itself moves more than a terminal does.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from models._kernel import kernel
from models.batch import I64, ReadingBatch
from models.channels import CHANNEL_ID
from models.detecting import (
    CLEAR,
    RAISE,
    WARNING,
    DetectorSpec,
    EmissionArrays,
    Emissions,
    Observed,
    timeline,
)
from models.devices import DeviceTable
from models.units import NO_TIME

from ._base import GRID_CHANNELS, Table, check_version, ns, require, slots
from ._kernels import emit
from ._pool import NONE, Chains, Pool, drop, find
from ._site_quiet import (
    CHANGED,
    EVENT_FIELDS,
    MOVING_FIELDS,
    SITE_BLANK,
    SITE_FIELDS,
    STEP_FIELDS,
    Notes,
    Steps,
    forget,
    notes,
    others_a,
    remember,
    step_kernel,
)
from ._source_baseline import BASE_FIELDS, RAISED, Limits, base_of, known, test_against, test_step
from ._voltage import inventory

_AMPS: Final = tuple(CHANNEL_ID[f"Current.Import{p}"] for p in ("@L1", "@L2", "@L3", ""))

SPEC = DetectorSpec(
    "source_impedance",
    "evse",
    "statistical",
    (*GRID_CHANNELS, *_AMPS),
    ("source_ohm", "baseline_ohm", "limit_ohm", "step_a", "steps", "phase"),
    needs_channels=True,
    peers=True,
)

VERSION: Final = 2

_MOST_BASES: Final = 4  # that one step may need: three phases, and what is raised
_FORGET_AT: Final = 64


@dataclass(frozen=True, slots=True)
class Config:
    """Limits of `source_impedance`.

    Attributes
    ----------
    factor : float
        Limit relative to the own baseline. Unit: 1. Default 1.5. Source: CONVENTIONS.
    least_ohm : float
        Least rise above it. Unit: ohm. Default 0.1. Source: CONVENTIONS; at 16 A these are 26 W in one
        terminal.
    least_step_a : float
        Least step of a phase current. Unit: A. Default 6. Source: IEC 61851-1, least charging current.
    still_a : float
        Smaller changes of a current are none. Unit: A. Default 1. Source: noise and regulation of chargers.
    settle_s : float
        A ramp is taken as ended after this long. Unit: s. Default 15. Source: ramps of on-board chargers last
        5 to 10 s.
    longest_s : float
        Longest time between the two readings of a step. Unit: s. Default 300. Source: over longer ones the
        grid moves by volts.
    quiet_share : float
        Change of the rest of the site relative to the step. Unit: 1. Default 0.25. Source: a feeder that is
        as large as the EVSE's own branch then adds a quarter.
    noise_v, drift_v : float
        Standard deviation of a voltage difference, and its growth with the root of the time in s. Unit: V
        and V per root second. Default 0.4 and 0.07. Source: class B meters; slow motion of low-voltage grids,
        1.2 V in 5 min.
    memory : int
        The baseline follows a sound step by 1/memory. Unit: steps. Default 64. Source: weeks of use.
    threshold : float
        Of the sum; mean run between false alarms at least exp(threshold) steps. Unit: nat. Default 11.5.
        Source: Lorden's bound, 100,000 steps.
    unpowered_pu : float
        A voltage below this share of nominal says nothing. Unit: 1 (per unit). Default 0.5. Source: far below
        any supply.
    """

    factor: float = 1.5
    least_ohm: float = 0.1
    least_step_a: float = 6.0
    still_a: float = 1.0
    settle_s: float = 15.0
    longest_s: float = 300.0
    quiet_share: float = 0.25
    noise_v: float = 0.4
    drift_v: float = 0.07
    memory: int = 64
    threshold: float = 11.5
    unpowered_pu: float = 0.5

    def __post_init__(self) -> None:
        require(
            self,
            factor=(1.0, 10.0),
            least_ohm=(0.001, 10.0),
            least_step_a=(0.5, 1000.0),
            still_a=(0.1, 100.0),
            settle_s=(0.0, 600.0),
            longest_s=(1.0, 3600.0),
            quiet_share=(0.0, 10.0),
            noise_v=(0.01, 100.0),
            drift_v=(0.0, 10.0),
            memory=(2, 100_000),
            threshold=(1.0, 100.0),
            unpowered_pu=(0.0, 0.9),
        )


@kernel
def _tell(
    base: Any, j: int, kind: int, start_s: int, end_s: int, told: Notes, limits: Limits, out: EmissionArrays
) -> None:
    usual, k = float(base["base_ohm"]), base["k"]
    limit = max(limits.factor * usual, usual + limits.least_ohm)
    at = emit(
        out, told.evse[j], kind, WARNING, 1, start_s * 1_000_000_000, end_s * 1_000_000_000,
        told.order[j], told.effect_ns[j], base["mean_ohm"] / limit,
    )  # fmt: skip
    out.evidence[at, 0] = base["mean_ohm"]
    out.evidence[at, 1] = usual
    out.evidence[at, 2] = limit
    out.evidence[at, 3] = told.step_a[j, k % 3]
    out.evidence[at, 4] = base["n"]
    out.evidence[at, 5] = k % 3 + 1


@kernel
def _judge(rec: Any, j: int, told: Notes, limits: Limits, bases: Chains, out: EmissionArrays) -> None:
    """Take in the step of note j, which the rest of the site did not disturb."""
    greatest, least = 0.0, np.inf
    for p in range(3):
        step = abs(told.step_a[j, p])
        if step == step:
            greatest, least = max(greatest, step), min(least, step)
    offset = 0 if least >= 0.8 * greatest else 3
    t_s = told.time_ns[j] // 1_000_000_000
    noise = (limits.noise_v**2 + limits.drift_v**2 * told.step_s[j]) ** 0.5
    for p in range(3):
        step = told.step_a[j, p]
        if not abs(step) >= limits.least_step_a or told.step_v[j, p] != told.step_v[j, p]:
            continue
        ohm = -told.step_v[j, p] / step
        base = bases.rows[base_of(rec, offset + p, bases)]
        more = find(bases, rec["bases"], 3 + p) if offset == 0 else NONE
        if more != NONE and known(bases.rows[more], limits) and not known(base, limits):
            own, base = base, bases.rows[more]
            found = test_against(own, base, ohm, noise / abs(step), t_s, limits)
        else:
            found = test_step(base, ohm, noise / abs(step), t_s, limits)
        if found == 0:
            continue
        head = bases.rows[base_of(rec, RAISED, bases)]
        if found > 0 and head["n"] == 0:
            head["since_s"] = base["since_s"]
            _tell(base, j, RAISE, head["since_s"], t_s, told, limits, out)
        head["n"] += found
        if head["n"] == 0:
            _tell(base, j, CLEAR, head["since_s"], base["since_s"], told, limits, out)
            rec["bases"] = drop(bases, rec["bases"], find(bases, rec["bases"], RAISED))


@kernel
def _judge_kernel(
    start: int,
    by_order: I64,
    told: Notes,
    site_of: I64,
    index: Any,
    evses: Chains,
    bases: Chains,
    sites: Any,
    events: Chains,
    limits: Limits,
    out: EmissionArrays,
) -> int:
    """Take in notes in order of effect; return the first that had no room for its emissions or records."""
    room = len(out.order) - 3
    for k in range(start, len(by_order)):
        if out.used[0] > room or events.free[1] < 1 or bases.free[1] < _MOST_BASES:
            return k
        j = by_order[k]
        evse = told.evse[j]
        site = sites[site_of[j]]
        if told.kind[j] == CHANGED:
            remember(site, told.order[j], evse, told.change_a[j], events)
            continue
        own = 0.0
        for p in range(3):
            if told.step_a[j, p] == told.step_a[j, p]:
                own += abs(told.step_a[j, p])
        if others_a(site, evse, told.from_order[j], events) < limits.quiet_share * own:
            _judge(evses.rows[index[evse]["at"]], j, told, limits, bases, out)
    return len(by_order)


class Detector:
    """The detector behind `source_impedance`."""

    spec = SPEC

    def __init__(self, config: Config, resume_state: dict[str, Any] | None = None) -> None:
        self._steps = Steps(
            float(config.least_step_a),
            float(config.still_a),
            ns(config.settle_s),
            ns(config.longest_s),
            float(config.unpowered_pu),
        )
        self._limits = Limits(
            float(config.factor),
            float(config.least_ohm),
            float(config.least_step_a),
            float(config.quiet_share),
            float(config.noise_v),
            float(config.drift_v),
            int(config.memory),
            float(config.threshold),
        )
        self._index = Table([("at", "i4")], {"at": NONE})
        self._sites = Table(SITE_FIELDS, SITE_BLANK)
        self._evses, self._moving = Pool(STEP_FIELDS), Pool(MOVING_FIELDS)
        self._bases, self._events = Pool(BASE_FIELDS), Pool(EVENT_FIELDS)
        self._forget_at = _FORGET_AT  # events remembered, from which it is looked for some that nobody needs
        if resume_state is not None:
            check_version(SPEC, VERSION, resume_state)
            self._load(resume_state)
        # compiled (or read from the cache) here, not at the first reading of a live stream
        self._run(ReadingBatch.empty(0, SPEC.channels[:1]), DeviceTable(), Emissions())

    def process(self, seen: Observed, out: Emissions) -> None:
        """Take in one batch and emit what changed."""
        if len(seen.rows) and not seen.rows.present.isdisjoint(_AMPS):
            self._index.reserve(seen.devices.n_evses)
            self._sites.reserve(seen.devices.n_sites)
            self._run(seen.rows, seen.devices, out)
            if self._events.used > self._forget_at:
                self._forget(seen.devices)
                self._forget_at = max(2 * self._events.used, _FORGET_AT)

    def _run(self, rows: ReadingBatch, devices: DeviceTable, out: Emissions) -> None:
        told = notes(2 * len(rows))
        index, at = self._index.rows, 0
        stream, values, inv = timeline(rows), np.ascontiguousarray(rows.values), inventory(devices)
        volts, amps = slots(rows, GRID_CHANNELS), slots(rows, _AMPS)
        while True:
            evses, moving = self._evses.chains, self._moving.chains
            at = int(
                step_kernel(stream, values, volts, amps, inv, index, evses, moving, self._steps, at, told)
            )
            if at >= len(rows):
                break
            self._evses.have(1)
            self._moving.have(1)
        used = int(told.used[0])
        # a change before a step that is judged by the same message
        by_order = np.lexsort((told.evse[:used], told.kind[:used], told.order[:used])).astype(np.int64)
        stations = devices.evse_station[told.evse[:used]]
        site_of = np.array(devices.station_site, np.int64)[stations] if used else np.zeros(0, np.int64)
        at = 0
        while True:
            at = int(
                _judge_kernel(
                    at, by_order, told, site_of, index, self._evses.chains, self._bases.chains,
                    self._sites.rows, self._events.chains, self._limits, out.arrays,
                )
            )  # fmt: skip
            if at >= used:
                break
            if not (self._events.have(1) or self._bases.have(_MOST_BASES)):
                out.grow()
        out.collect(SPEC)

    def _forget(self, devices: DeviceTable) -> None:
        """Let events go that no EVSE heard of so far can ask for."""
        needed = np.full(self._sites.n, np.iinfo(np.int64).max)
        heads = self._index.rows["at"][: self._index.n]
        evse = np.flatnonzero(heads != NONE)
        rec = self._evses.rows[heads[evse]]
        after = rec["order"] - np.maximum(rec["ref_n"], rec["before_n"]).astype(np.int64)
        waits = rec["moving"] != NONE
        step = self._moving.rows[rec["moving"][waits]]
        after[waits] = np.where(
            step["step_ns"] == NO_TIME, after[waits], np.minimum(after[waits], step["step_from"])
        )
        sites = np.array(devices.station_site, np.int64)[devices.evse_station[evse]]
        np.minimum.at(needed, sites, after)
        forget(self._sites.rows, needed, self._events.chains)

    def _heads(self, field: str) -> NDArray[np.int32]:
        """Return where the chains of a field of the EVSEs' records begin, by EVSE."""
        at = self._index.rows["at"][: self._index.n]
        return np.where(at != NONE, self._evses.rows[field][at], NONE).astype(np.int32)

    def snapshot(self) -> dict[str, Any]:
        """Return the whole state as plain data, copied."""
        at, sites = self._index.columns()["at"], self._sites.columns()
        evses, first = self._evses.columns(at), sites.pop("first")
        return {
            "code": SPEC.code,
            "version": VERSION,
            "n": self._index.n,
            "evses": {name: x for name, x in evses.items() if name not in {"moving", "bases"}},
            "moving": self._moving.columns(self._heads("moving")),
            "bases": self._bases.columns(self._heads("bases")),
            "sites": {name: x for name, x in sites.items() if name != "last"},
            "events": self._events.columns(first),
        }

    def _load(self, state: dict[str, Any]) -> None:
        """Take over what `snapshot` returned."""
        none = np.full(len(state["evses"]["owner"]), NONE, np.int32)
        self._index.reserve(state["n"])
        at = self._index.rows["at"]
        self._evses.load(state["evses"] | {"moving": none, "bases": none}, at, SPEC.code)
        for pool, field in ((self._moving, "moving"), (self._bases, "bases")):
            heads = np.full(state["n"], NONE, np.int32)
            pool.load(state[field], heads, SPEC.code)
            known = at[: state["n"]] != NONE
            self._evses.rows[field][at[: state["n"]][known]] = heads[known]
        none = np.full(len(state["sites"]["kept"]), NONE, np.int32)
        self._sites.load(state["sites"] | {"first": none, "last": none}, SPEC.code)
        self._events.load(state["events"], self._sites.rows["first"], SPEC.code)
        slot = self._sites.rows["first"].copy()
        while (slot != NONE).any():
            self._sites.rows["last"][slot != NONE] = slot[slot != NONE]
            slot = np.where(slot != NONE, self._events.rows["next"][slot], NONE)

    def nbytes(self) -> int:
        """Return the bytes of state held."""
        pools = (self._evses, self._moving, self._bases, self._events)
        return self._index.nbytes + self._sites.nbytes + sum(pool.nbytes for pool in pools)


def build(config: Config, resume_state: dict[str, Any] | None = None) -> Detector:
    """Return the detector, with the state of `resume_state` if given."""
    return Detector(config, resume_state)
