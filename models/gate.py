"""The telemetry gate: are updated stations worse than those of the same model that still wait?

Four figures come once an hour for every station: findings raised, failed starts, seconds offline, energy.
For each the gate runs Wald's sequential probability ratio test of "as before" (ratio of the rates 1) against
"worse by `ratio`" (half more findings, failed starts or offline time; a fifth less energy).

Within one clock hour the sum n of both groups is given, and the updated stations' part x of it is
compared: with exposures E1 (updated) and E0 (waiting) and p = E1 / (E1 + E0) it is binomial with p if
nothing changed, and with r·p / (r·p + 1 - p) if the rate is r times the other. The logarithm of the ratio is

    x · ln r - n · ln(r·p + 1 - p)

summed over the hours, so that times of day and days of the week cancel. Counts of real stations scatter
more than Poisson: some stations are always worse than others, and trouble comes in bursts. The sum
is therefore divided by the dispersion (Pearson's, over the totals of the waiting stations, at least
1; they are many, and untouched): a quasi-likelihood. It is exact for Poisson counts, and an approximation for
the others that the drill checks (docs/campaigns.md).

Above ln((1 - beta) / a) a metric is worse, below ln(beta / (1 - a)) it is as before, with a = alpha / number
of metrics (Bonferroni): the chance that a harmless image is stopped is at most alpha, that a metric worse by
`ratio` or more passes as harmless at most beta. In between the gate waits, at most `max_soak_s`.
"""

from __future__ import annotations

import math
from typing import Annotated, Any, Final, Literal

import msgspec
import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

from ._gate_history import EXPOSURE, exposures
from .errors import SnapshotError
from .gate_words import compared, decided

VERSION: Final = 2
HOUR_MS: Final = 3_600_000
#: Hours of one test that are kept; later ones go to the last (60 days are more than any soak).
_MAX_HOURS: Final = 1440

METRICS: Final = ("findings", "failed_starts", "offline_s", "energy_wh")

_Share = Annotated[float, Meta(gt=0.0, lt=0.5)]
_Worse = Annotated[float, Meta(gt=1.0, le=10.0)]
_Seconds = Annotated[int, Meta(ge=0, le=60 * 86_400)]


class GateSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the gate asks for before the next wave.

    Attributes
    ----------
    enabled : bool
        Without, waves follow one another by their thresholds alone.
    metrics : tuple of str
        Which of `METRICS` count.
    alpha : float
        Chance, over all metrics, that a harmless image is stopped at one gate (0.01: a false stop costs a
        person's look and hours, and there are few gates in a year).
    beta : float
        Chance that a metric worse by its ratio passes as harmless (0.01).
    findings_ratio, failed_starts_ratio, offline_ratio : float
        Rate of the updated over that of the waiting that counts as worse (1.5: half more).
    energy_ratio : float
        Energy per hour of the updated over that of the waiting that counts as worse (0.8: a fifth less).
    min_soak_s : int
        Least time between the end of a wave and the next, whatever the figures (6 h: some faults need
        a few sessions to show).
    max_soak_s : int
        Longest wait for a decision (72 h), then `undecided` counts.
    undecided : str
        ``pause``: a person decides; ``likelier``: what the figures make likelier counts; ``continue``.
        Only with ``pause`` do alpha and beta hold.
    min_stations : int
        Least number of stations in each group; fewer say nothing (20).
    """

    enabled: bool = True
    metrics: tuple[Literal["findings", "failed_starts", "offline_s", "energy_wh"], ...] = METRICS
    alpha: _Share = 0.01
    beta: _Share = 0.01
    findings_ratio: _Worse = 1.5
    failed_starts_ratio: _Worse = 1.5
    offline_ratio: _Worse = 1.5
    energy_ratio: Annotated[float, Meta(gt=0.0, lt=1.0)] = 0.8
    min_soak_s: _Seconds = 6 * 3600
    max_soak_s: _Seconds = 72 * 3600
    undecided: Literal["pause", "likelier", "continue"] = "pause"
    min_stations: Annotated[int, Meta(ge=2, le=100_000)] = 20

    @property
    def ratios(self) -> tuple[float, float, float, float]:
        """The ratio of each of `METRICS` that counts as worse."""
        return self.findings_ratio, self.failed_starts_ratio, self.offline_ratio, self.energy_ratio

    @property
    def bounds(self) -> tuple[float, float]:
        """Lower and upper bound of the logarithm of the likelihood ratio, per metric."""
        each = self.alpha / max(1, len(self.metrics))
        return math.log(self.beta / (1.0 - each)), math.log((1.0 - self.beta) / each)


class MetricVerdict(msgspec.Struct, frozen=True, kw_only=True):
    """What one metric says; rates are per station-hour (failed starts: per start), None without exposure."""

    metric: str
    verdict: str  # worse, same, open
    llr: float
    lower: float
    upper: float
    dispersion: float
    updated: float  # sum over the updated stations
    updated_exposure: float
    waiting: float
    waiting_exposure: float
    rate_updated: float | None
    rate_waiting: float | None
    usual: float | None  # rate of the updated over that of the waiting, as it was before the campaign


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """What the gate says of one wave."""

    decision: str  # wait, pass, worse, undecided
    reason: str
    stations_updated: int
    stations_waiting: int
    hours: int
    metrics: tuple[MetricVerdict, ...] = ()


class Gate:
    """The evidence of one test: sums per clock hour and group, and totals of each waiting station.

    Parameters
    ----------
    from_ms : int
        Hours that begin earlier do not count.
    weights : ndarray, shape (n, 4), optional
        What is expected of each station over the mean of all, from before the campaign
        (`models._gate_history`); stations beyond are expected at the mean. Without, all are.
    """

    def __init__(self, from_ms: int, weights: NDArray[np.float64] | None = None) -> None:
        self.from_hour = -(-from_ms // HOUR_MS)
        self.weights = np.ones((0, len(METRICS))) if weights is None else weights
        self._hours = 0
        #: hour, group (0 waiting, 1 updated), metric: sums; beside them exposures, and those weighted.
        self._sums = np.zeros((24, 2, len(METRICS)))
        self._exposure = np.zeros((24, 2, 3))
        self._expected = np.zeros((24, 2, len(METRICS)))
        #: group, station row, metric: sums and weighted exposures; and in which groups a station was.
        self._station = np.zeros((2, 64, len(METRICS)))
        self._station_expected = np.zeros((2, 64, len(METRICS)))
        self._seen = np.zeros(64, np.uint8)

    def add(
        self,
        hour: int,
        rows: NDArray[np.int64],
        updated: NDArray[np.bool_],
        values: NDArray[np.float64],
        starts: NDArray[np.float64],
    ) -> None:
        """Take in one hour of n stations, each at most once an hour.

        Parameters
        ----------
        hour : int
            Hours since the epoch.
        rows : ndarray, shape (n,)
            Station rows, no two alike.
        updated : ndarray, shape (n,)
            Else the station is one that waits.
        values : ndarray, shape (n, 4)
            In the order of `METRICS`: findings raised, failed starts, seconds offline, Wh (NaN: not known).
        starts : ndarray, shape (n,)
            Starts tried, failed ones too.
        """
        at = hour - self.from_hour
        if at < 0 or not len(rows):
            return
        at = min(at, _MAX_HOURS - 1)
        self._room(at, int(rows.max()))
        self._hours = max(self._hours, at + 1)
        exposure = exposures(values, starts)
        expected = exposure[:, EXPOSURE]
        weighted = rows < len(self.weights)
        expected[weighted] *= self.weights[rows[weighted]]
        values = np.where(np.isfinite(values), values, 0.0)
        for group, chosen in ((0, ~updated), (1, updated)):
            self._sums[at, group] += values[chosen].sum(axis=0)
            self._exposure[at, group] += exposure[chosen].sum(axis=0)
            self._expected[at, group] += expected[chosen].sum(axis=0)
            self._station[group, rows[chosen]] += values[chosen]
            self._station_expected[group, rows[chosen]] += expected[chosen]
        self._seen[rows] |= np.where(updated, np.uint8(2), np.uint8(1))

    def judge(self, settings: GateSettings, soaked_ms: int) -> Verdict:
        """Return what the figures say `soaked_ms` after the end of the wave."""
        updated = int(((self._seen & 2) > 0).sum())
        waiting = int(((self._seen & 1) > 0).sum())
        found = tuple(self._metric(settings, METRICS.index(name)) for name in settings.metrics)
        enough = min(updated, waiting) >= settings.min_stations
        decision, reason = "wait", ""
        worse = [m for m in found if m.verdict == "worse"]
        if not enough:
            reason = f"{updated} updated and {waiting} waiting stations, {settings.min_stations} each needed"
        elif worse:
            decision, reason = "worse", "; ".join(_words(m) for m in worse)
        elif soaked_ms < settings.min_soak_s * 1000:
            reason = f"soaking {settings.min_soak_s} s"
        elif all(m.verdict == "same" for m in found):
            decision, reason = "pass", "every metric is as before"
        else:
            reason = "cannot tell yet of " + ", ".join(m.metric for m in found if m.verdict == "open")
        if decision == "wait" and soaked_ms >= max(settings.max_soak_s, settings.min_soak_s) * 1000:
            decision, reason = _give_up(settings, found, enough, reason)
        return Verdict(
            decision=decision,
            reason=reason,
            stations_updated=updated,
            stations_waiting=waiting,
            hours=self._hours,
            metrics=found,
        )

    def worst(self, settings: GateSettings) -> float:
        """Return the greatest log likelihood ratio over its upper bound: at 1 a figure is worse."""
        found = (self._metric(settings, METRICS.index(name)) for name in settings.metrics)
        return max((m.llr / m.upper for m in found), default=0.0)

    def _metric(self, settings: GateSettings, which: int) -> MetricVerdict:
        x = self._sums[: self._hours, :, which]
        e = self._expected[: self._hours, :, which]
        both = (e[:, 0] > 0) & (e[:, 1] > 0)
        x, e = x[both], e[both]
        ratio = settings.ratios[which]
        p = e[:, 1] / e.sum(axis=1)
        llr = x[:, 1] * math.log(ratio) - x.sum(axis=1) * np.log(ratio * p + 1.0 - p)
        spread = self._dispersion(which)
        lower, upper = settings.bounds
        total = float(llr.sum()) / spread
        sums, expected = x.sum(axis=0), e.sum(axis=0)
        exposed = self._exposure[: self._hours, :, EXPOSURE[which]][both].sum(axis=0)
        usual = (expected[1] * exposed[0]) / (exposed[1] * expected[0]) if both.any() else None
        return MetricVerdict(
            metric=METRICS[which],
            verdict="worse" if total >= upper else "same" if total <= lower else "open",
            llr=round(total, 3),
            lower=round(lower, 3),
            upper=round(upper, 3),
            dispersion=round(spread, 3),
            updated=round(float(sums[1]), 3),
            updated_exposure=float(exposed[1]),
            waiting=round(float(sums[0]), 3),
            waiting_exposure=float(exposed[0]),
            rate_updated=float(sums[1] / exposed[1]) if exposed[1] else None,
            rate_waiting=float(sums[0] / exposed[0]) if exposed[0] else None,
            usual=None if usual is None else round(float(usual), 4),
        )

    def _dispersion(self, which: int) -> float:
        """Return Pearson's dispersion of the stations' totals, at least 1: of the group that scatters more.

        One group alone will not do. Where few stations have much (an hour away among minutes), the other's
        figures look steady until its own first such station, and chance would pass for harm.
        """
        worst = 1.0
        for x, e in zip(self._station[:, :, which], self._station_expected[:, :, which], strict=True):
            known = e > 0
            x, e = x[known], e[known]
            if len(x) < 2 or not x.sum() > 0.0:
                continue
            expected = e * (x.sum() / e.sum())
            worst = max(worst, float(((x - expected) ** 2 / expected).sum() / (len(x) - 1)))
        return worst

    def _room(self, hour: int, row: int) -> None:
        while hour >= len(self._sums):
            self._sums = np.concatenate([self._sums, np.zeros_like(self._sums)])
            self._exposure = np.concatenate([self._exposure, np.zeros_like(self._exposure)])
            self._expected = np.concatenate([self._expected, np.zeros_like(self._expected)])
        if row >= len(self._seen):
            more = max(len(self._seen), row + 1 - len(self._seen))
            room = np.zeros((2, more, len(METRICS)))
            self._station = np.concatenate([self._station, room], axis=1)
            self._station_expected = np.concatenate([self._station_expected, room], axis=1)
            self._seen = np.concatenate([self._seen, np.zeros(more, np.uint8)])

    def snapshot(self) -> dict[str, Any]:
        """Return plain data from which `restore` makes an equal gate."""
        return {
            "version": VERSION,
            "from_hour": self.from_hour,
            "hours": self._hours,
            "sums": self._sums[: self._hours].copy(),
            "weights": self.weights.copy(),
            "exposure": self._exposure[: self._hours].copy(),
            "expected": self._expected[: self._hours].copy(),
            "station": self._station.copy(),
            "station_expected": self._station_expected.copy(),
            "seen": self._seen.copy(),
        }

    @classmethod
    def restore(cls, state: dict[str, Any]) -> Gate:
        """Return the gate saved in `state`.

        Raises
        ------
        SnapshotError
            If it is of another version.
        """
        if state.get("version") != VERSION:
            raise SnapshotError(f"gate has version {state.get('version')!r}, this program reads {VERSION}")
        gate = cls(0, state["weights"].copy())
        gate.from_hour, gate._hours = state["from_hour"], state["hours"]
        gate._room(max(0, gate._hours - 1), 0)
        gate._sums[: gate._hours] = state["sums"]
        gate._exposure[: gate._hours] = state["exposure"]
        gate._station = state["station"].copy()
        gate._expected[: gate._hours] = state["expected"]
        gate._station_expected = state["station_expected"].copy()
        gate._seen = state["seen"].copy()
        return gate


def _give_up(
    settings: GateSettings, found: tuple[MetricVerdict, ...], enough: bool, reason: str
) -> tuple[str, str]:
    """Return the decision at the end of the longest soak."""
    if settings.undecided == "continue":
        return "pass", f"{reason}; the longest soak is over, the campaign says: continue"
    if settings.undecided == "likelier" and enough:
        bad = [m for m in found if m.llr > 0.0]
        if bad:
            return "worse", "likelier worse at the end of the soak: " + "; ".join(_words(m) for m in bad)
        return "pass", f"{reason}; likelier harmless at the end of the soak"
    return "undecided", f"{reason}; the longest soak is over: a person decides"


def _words(metric: MetricVerdict) -> str:
    plain = msgspec.structs.asdict(metric)
    return f"{compared(plain)}; {decided(plain)}"
