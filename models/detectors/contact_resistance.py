"""Contact resistance grows: a plug heats more per square of the current than it used to, or than its
siblings do.

`_thermal` estimates k, the rise of the plug at rated current, with its standard error. Every five minutes
under load an estimate counts: it is too high when its lower bound (k minus `sigmas` standard errors) is at
least 1.8 times the plug's own baseline, or at least twice the median of at least three siblings (same site,
connector type and rated current), and the extra heat is at least `least_extra_k`. It raises when that lasted
for `least_s` and three estimates, and clears when estimates were below for as long.

False alarms: at most one per EVSE-year, on this basis. The standard error's time constant is about an hour,
so there are at most 24 independent estimates a day, 8760 a year. A healthy plug's k must rise by 80 % and its
lower bound of 2 standard errors (2.3e-2) must stay there for ten minutes. Measured on synthetic healthy plugs
with sun, weather, changing offers and lags from 360 to 600 s, sampled every 20, 60 and 300 s: none in 36
EVSE-years, so fewer than 0.1 a year with 95 % confidence. The same plugs with k grown 2.6 times are found at
the next changes of the current, within hours of charging.

Warm-up: one hour under load before the own baseline counts (siblings count as soon as they have theirs). The
baseline averages over 500 h under load and forgets with that time; it does not learn while k is above 1.3
times itself, so that slow growth stays visible. The ambient may wander by 1.5 K in an hour, k by 3 K in
an hour at rated current: a hot day goes to the ambient, a step of the heat per current to k.
"""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass
from typing import Any, ClassVar, Final

from models.batch import ReadingBatch
from models.channels import CHANNEL_ID
from models.detecting import (
    CLEAR,
    RAISE,
    WARNING,
    DetectorSpec,
    Emission,
    EmissionArrays,
    Emissions,
    Observed,
    timeline,
)
from models.devices import DeviceTable

from ._base import RowDetector, check_version, columns, ns, require
from ._connector import CURRENT_CHANNELS, Currents
from ._pool import NONE, KnownTable
from ._thermal import BLANK, FIELDS, PUBLISHED, Thermal, thermal_kernel

_TEMPERATURES: Final = (CHANNEL_ID["Temperature/Cable"], CHANNEL_ID["Temperature/Outlet"])

SPEC = DetectorSpec(
    "contact_resistance",
    "evse",
    "statistical",
    (*_TEMPERATURES, *CURRENT_CHANNELS),
    ("rise_k", "rise_error_k", "baseline_k", "siblings_k", "temperature_c", "ambient_c"),
    needs_channels=True,
    peers=True,
)

_ESTIMATE: Final = DetectorSpec("contact_resistance", "evse", "statistical", evidence=PUBLISHED)


@dataclass(frozen=True, slots=True)
class Config:
    """Limits of `contact_resistance`.

    Attributes
    ----------
    own_ratio, sibling_ratio : float
        Multiple of the own baseline, and of the siblings' median. Unit: 1 (per unit). Default 1.8 and 2.
        Source: CONVENTIONS.
    sigmas : float
        Standard errors between the estimate and the bound that must exceed. Unit: 1. Default 2. Source:
        fewer than one false alarm per EVSE-year, see above.
    least_extra_k : float
        Least rise beyond the baseline, at rated current. Unit: K. Default 4. Source: own choice, below it
        sensor offsets and wind matter.
    least_siblings : int
        Siblings that a median needs. Unit: EVSEs. Default 3. Source: own choice, one odd sibling must not
        decide.
    tau_s : float
        Lag of a plug. Unit: s. Default 480. Source: plugs follow a step of the current within minutes
        (stations.md 3.1); a wrong one shifts k and its baseline alike.
    step_s, gap_s : float
        Least time between two steps of the estimate, and the gap after which it begins anew. Unit: s.
        Default 30 and 3600. Source: a small part of the lag, and several of it.
    estimate_s : float
        Time between two estimates that count. Unit: s. Default 300. Source: own choice, a third of the lag's
        settling.
    least_s, hold_s : float
        Time that the condition must last, and be absent. Unit: s. Default 600. Source: CONVENTIONS,
        max(raise duration, 60 s).
    noise_k : float
        Error of a temperature and of the model. Unit: K. Default 0.7. Source: sensors of 0.1 to 0.5 K, lag
        off by a quarter.
    ambient_walk_k, rise_walk_k : float
        Wandering of ambient and of k in an hour. Unit: K. Default 1.5 and 3. Source: a sunny morning; a
        contact that fails within days, and shows at the next change of current.
    warm_up_s, baseline_s : float
        Time under load before the baseline counts, and over which it averages. Unit: s. Default 3600 and
        1800000. Source: three times the settling of ambient and k; 500 h are months of use.
    learn_ratio : float
        The baseline does not learn above this multiple of itself. Unit: 1. Default 1.3. Source: between
        scatter and limit.
    learn_error : float
        Nor while the standard error is above this share of k. Unit: 1 (of k). Default 0.2. Source: own
        choice, a quarter of the way to the limit.
    load_share : float
        Lagged square of the current from which a plug is under load. Unit: 1 (of the rated). Default 0.1.
        Source: a third of the rated current.
    rated_ac_a, rated_dc_a : float
        Rated current where the inventory declares none. Unit: A. Default 32 and 200. Source: IEC 62196.
    failed_high_c, failed_low_c : float
        A sensor at or beyond these has failed. Unit: Celsius. Default 150 and -40. Source: CONVENTIONS,
        channels.
    """

    own_ratio: float = 1.8
    sibling_ratio: float = 2.0
    sigmas: float = 2.0
    least_extra_k: float = 4.0
    least_siblings: int = 3
    tau_s: float = 480.0
    step_s: float = 30.0
    gap_s: float = 3600.0
    estimate_s: float = 300.0
    least_s: float = 600.0
    hold_s: float = 600.0
    noise_k: float = 0.7
    ambient_walk_k: float = 1.5
    rise_walk_k: float = 3.0
    warm_up_s: float = 3600.0
    baseline_s: float = 1_800_000.0
    learn_ratio: float = 1.3
    learn_error: float = 0.2
    load_share: float = 0.1
    rated_ac_a: float = 32.0
    rated_dc_a: float = 200.0
    failed_high_c: float = 150.0
    failed_low_c: float = -40.0

    def __post_init__(self) -> None:
        require(
            self,
            own_ratio=(1.0, 100.0),
            sibling_ratio=(1.0, 100.0),
            sigmas=(0.0, 20.0),
            least_extra_k=(0.0, 100.0),
            least_siblings=(1, 1000),
            tau_s=(10.0, 7200.0),
            step_s=(1.0, 900.0),
            gap_s=(60.0, 86_400.0),
            estimate_s=(1.0, 86_400.0),
            least_s=(0.0, 86_400.0),
            hold_s=(1.0, 86_400.0),
            noise_k=(0.01, 20.0),
            ambient_walk_k=(0.01, 50.0),
            rise_walk_k=(0.01, 100.0),
            warm_up_s=(0.0, 1e7),
            baseline_s=(1.0, 1e9),
            learn_ratio=(1.0, 100.0),
            learn_error=(0.001, 10.0),
            load_share=(0.001, 1.0),
            rated_ac_a=(1.0, 1000.0),
            rated_dc_a=(1.0, 5000.0),
            failed_high_c=(100.0, 1000.0),
            failed_low_c=(-273.0, 0.0),
        )


@dataclass(slots=True)
class _Judged:
    """Where an EVSE stands whose last estimate was too high, or of which something is raised."""

    since_ns: int = -1  # first estimate too high of the run, -1: none
    n: int = 0
    good_ns: int = -1  # first estimate below, while raised
    raised: bool = False
    live: bool = False
    start_ns: int = 0


class _Detector(RowDetector):
    spec = SPEC
    version = 2
    dtype: ClassVar[list[Any]] = [("next", "i4")]  # EVSE of the same site that has an estimate too
    blank: ClassVar[dict[str, Any]] = {"next": NONE}

    def __init__(self, config: Config, resume_state: dict[str, Any] | None) -> None:
        self._c = config
        self._thermal = Thermal(
            config.tau_s * 1e9,
            ns(config.step_s),
            ns(config.gap_s),
            ns(config.estimate_s),
            float(config.noise_k) ** 2,
            float(config.ambient_walk_k) ** 2,
            float(config.rise_walk_k) ** 2,
            14.0,  # K at rated current: typical of plugs, forgotten within the first charge
            400.0,
            4.0,
            float(config.load_share),
            float(config.learn_ratio),
            float(config.learn_error),
            float(config.baseline_s),
            float(config.failed_high_c),
            float(config.failed_low_c),
        )
        self._estimates = Emissions()
        self._judged: dict[int, _Judged] = {}
        self._first: dict[int, int] = {}  # site -> EVSE with an estimate that the others hang on
        self._plugs = KnownTable(FIELDS, BLANK)
        super().__init__(None)
        if resume_state is not None:
            check_version(SPEC, self.version, resume_state)
            self._plugs.load(resume_state["evses"], SPEC.code)
            self.table.reserve(self._plugs.n)
            for site, row in resume_state["siblings"]:
                self._join(site, row)
            for row, *values in resume_state["judged"]:
                self._judged[row] = _Judged(*values)

    def _join(self, site: int, row: int) -> None:
        """Put an EVSE among those of its site that have an estimate."""
        self.table.rows["next"][row] = self._first.get(site, NONE)
        self._first[site] = row

    def _known(self, site: int) -> list[int]:
        """Return the EVSEs of a site that have an estimate."""
        rows, row, after = [], self._first.get(site, NONE), self.table.rows["next"]
        while row != NONE:
            rows.append(row)
            row = int(after[row])
        return rows

    def _run(self, start: int, rows: ReadingBatch, devices: DeviceTable, out: EmissionArrays) -> int:
        cable_c, outlet_c, *currents = columns(rows, SPEC.channels)
        c, stream, amps = self._c, timeline(rows), Currents(*currents)
        rated = float(c.rated_ac_a), float(c.rated_dc_a)
        while True:
            start = int(
                thermal_kernel(
                    start, stream, amps, cable_c, outlet_c, devices.dc, devices.max_a, *rated,
                    float(c.warm_up_s), self._plugs.arrays, self._thermal, out,
                )
            )  # fmt: skip
            if not self._plugs.make_room():
                return start

    def process(self, seen: Observed, out: Emissions) -> None:
        """Take in one batch: estimates per EVSE, then judged one after the other in order of effect."""
        rows, found = seen.rows, self._estimates
        if rows.present.isdisjoint(_TEMPERATURES):
            return
        self.table.reserve(seen.devices.n_evses)
        self._plugs.reserve(seen.devices.n_evses)
        at = 0
        while (at := self._run(at, rows, seen.devices, found.arrays)) < len(rows):
            found.grow()
        found.collect(_ESTIMATE)
        for item in found.drain():
            self._judge(item, seen.devices, out)

    def _judge(self, item: Emission, devices: DeviceTable, out: Emissions) -> None:
        c, row, t, e = self._c, item.subject, item.time_ns, item.evidence
        site = devices.station_site[devices.evse_station[row]]
        plug = self._plugs.hold(row)
        if math.isnan(plug["said_k"]):
            self._join(site, row)
        baseline = e.get("baseline", math.nan)
        plug["said_k"] = e["k"] if baseline == baseline else math.inf
        median = self._median(row, site, devices)
        low = e["k"] - c.sigmas * e["sigma"]
        extra = e["k"] - c.least_extra_k
        own = low >= c.own_ratio * baseline and extra >= baseline
        other = low >= c.sibling_ratio * median and extra >= median
        if own or other:
            judged = self._judged.setdefault(row, _Judged())
            judged.good_ns = -1
            if judged.n == 0:
                judged.since_ns = t
            judged.n += 1
            lasting = judged.n >= 3 and t - judged.since_ns >= ns(c.least_s)
            if (lasting and not judged.raised) or (judged.raised and item.live and not judged.live):
                judged.start_ns = judged.start_ns if judged.raised else judged.since_ns
                judged.raised, judged.live = True, item.live
                self._emit(item, judged, RAISE, t, baseline, median, out)
            return
        suspect = self._judged.get(row)
        if suspect is not None:
            self._recover(suspect, item, baseline, median, out)

    def _recover(
        self, judged: _Judged, item: Emission, baseline: float, median: float, out: Emissions
    ) -> None:
        """Take in an estimate that is not too high."""
        t = item.time_ns
        judged.n = 0
        if judged.raised:
            judged.good_ns = t if judged.good_ns < 0 else judged.good_ns
            if t - judged.good_ns >= ns(self._c.hold_s):
                judged.raised = False
                self._emit(item, judged, CLEAR, judged.good_ns, baseline, median, out)
        if not judged.raised:
            del self._judged[item.subject]

    def _median(self, row: int, site: int, devices: DeviceTable) -> float:
        """Return the median estimate of the siblings that are warmed up, NaN of too few."""
        plugs = self._plugs.arrays
        said_k, at = plugs.rows["said_k"], plugs.at
        like = (devices.conn_type[row], devices.dc[row], devices.max_a[row])
        found = [
            k
            for other in self._known(site)
            if other != row
            and (devices.conn_type[other], devices.dc[other], devices.max_a[other]) == like
            and (k := float(said_k[at[other]])) != math.inf
        ]
        return statistics.median(found) if len(found) >= self._c.least_siblings else math.nan

    def _emit(
        self,
        item: Emission,
        judged: _Judged,
        kind: int,
        t: int,
        baseline: float,
        median: float,
        out: Emissions,
    ) -> None:
        e = item.evidence
        ratios = [e["k"] / x for x in (baseline, median) if x == x and x > 0.0]
        words = {
            "rise_k": e["k"],
            "rise_error_k": e["sigma"],
            "baseline_k": baseline,
            "siblings_k": median,
            "temperature_c": e["temperature_c"],
            "ambient_c": e["ambient_c"],
        }
        out.add(
            SPEC,
            order=item.order,
            effect_ns=item.effect_ns,
            subject=item.subject,
            kind=kind,
            severity=WARNING,
            start_ns=judged.start_ns,
            time_ns=t,
            live=judged.live,
            score=max(ratios, default=1.0),
            evidence={name: round(value, 6) for name, value in words.items() if value == value},
        )

    def snapshot(self) -> dict[str, Any]:
        """Return the whole state as plain data, copied."""
        names = _Judged.__slots__
        judged = [
            [row, *(getattr(item, name) for name in names)] for row, item in sorted(self._judged.items())
        ]
        siblings = [[site, row] for site in sorted(self._first) for row in sorted(self._known(site))]
        return {
            "code": SPEC.code,
            "version": self.version,
            "evses": self._plugs.columns(),
            "siblings": siblings,
            "judged": judged,
        }

    def nbytes(self) -> int:
        """Return the bytes of state held (an estimate: 250 a suspect, 80 a site)."""
        return super().nbytes() + self._plugs.nbytes + 80 * len(self._first) + 250 * len(self._judged)


def build(config: Config, resume_state: dict[str, Any] | None = None) -> RowDetector:
    """Return the detector, with the state of `resume_state` if given."""
    return _Detector(config, resume_state)
