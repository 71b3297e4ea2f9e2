"""Charging fails to start: three failed starts in a row, or a failure rate twice that of the site.

Every transaction is an attempt. It succeeded once its register has moved by `energy_wh`, or, where registers
are missing, when the station said that it charged. It failed when it ended without energy, and when the
station reported a failed cable check or precharge (CX011, CX012) in it; such a report outside a transaction
is a failed attempt of its own. Attempts that say nothing of the connector count as neither: the car or the
station suspended the charge, the driver ended it within a minute, the token was refused, the station
restarted or lost its supply.

The failure rate p of an EVSE has the posterior Beta(f + a, n - f + b), where f of n attempts failed and the
prior (a, b) is centred on the site's rate with the weight of `prior_starts` attempts. The rate q of the other
EVSEs of the site has Beta(F + 1, N - F + 19): one failure in 20 is assumed of a site of which nothing is
known. It raises when P(p > 2 q) > 0.99, both uncertain, and takes back below 0.5. Counts halve every
`half_life_s` of event time. One attempt after another of a healthy EVSE can exceed the level by chance:
the warm-up of `least_starts` attempts here and `least_peer_starts` elsewhere, and the requirement of
`least_failures`, keep that rare.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from models import faults
from models._beta import twice_as_often
from models.detecting import CLEAR, RAISE, WARNING, DetectorSpec, Emissions, Observed
from models.records import StationEvent, Transaction

from ._base import check_version, ns, require
from ._nodes import NodeDetector

SPEC = DetectorSpec(
    "start_failures",
    "evse",
    "statistical",
    evidence=("in_a_row", "failed", "starts", "site_rate", "posterior", "reason"),
    peers=True,
)

VERSION: Final = 1

#: Reasons to end that say nothing of the connector.
_NOT_ITS_FAULT: Final = frozenset(
    {"DeAuthorized", "ImmediateReset", "Reboot", "PowerLoss", "SoftReset", "HardReset", "MasterPass"}
)


@dataclass(frozen=True, slots=True)
class Config:
    """Limits of `start_failures`.

    Attributes
    ----------
    in_a_row : int
        Failed starts in a row. Unit: starts. Default 3. Source: CONVENTIONS.
    ratio : float
        Multiple of the site's rate. Unit: 1 (per unit). Default 2. Source: CONVENTIONS.
    posterior : float
        Probability that its rate is that multiple. Unit: 1. Default 0.99. Source: CONVENTIONS.
    clear_posterior : float
        Probability below which it is taken back. Unit: 1. Default 0.5. Source: more likely not than so.
    prior_starts : float
        Weight of the prior. Unit: starts. Default 4. Source: own choice, a day's starts of a busy EVSE.
    least_starts, least_peer_starts, least_failures : int
        Starts of the EVSE, of its site's others, and failures of the EVSE before rates are compared.
        Unit: starts. Default 5, 20 and 3. Source: own choice, below them the priors decide.
    half_life_s : float
        Time in which a counted start loses half its weight. Unit: s. Default 2592000. Source: own choice,
        30 days, the usual interval of visits.
    energy_wh : float
        Energy that makes a start succeed. Unit: Wh. Default 20. Source: one minute at 6 A and 230 V.
    brief_s : float
        A transaction that ended within this time without energy says nothing, if the station said that it
        charged. Unit: s. Default 60. Source: own choice, a driver who changes his mind.
    same_s : float
        Reports of failed starts outside transactions this near to each other are one. Unit: s. Default 30.
        Source: a cable check takes up to 40 s (IEC 61851-23), retries come at once.
    live_max_age_s : float
        An attempt older than this at arrival is backlog. Unit: s. Default 900. Source: CONVENTIONS,
        live_max_age_s.
    """

    in_a_row: int = 3
    ratio: float = 2.0
    posterior: float = 0.99
    clear_posterior: float = 0.5
    prior_starts: float = 4.0
    least_starts: int = 5
    least_peer_starts: int = 20
    least_failures: int = 3
    half_life_s: float = 2_592_000.0
    energy_wh: float = 20.0
    brief_s: float = 60.0
    same_s: float = 30.0
    live_max_age_s: float = 900.0

    def __post_init__(self) -> None:
        require(
            self,
            in_a_row=(1, 100),
            ratio=(1.0, 100.0),
            posterior=(0.5, 1.0),
            clear_posterior=(0.0, 1.0),
            prior_starts=(0.1, 1000.0),
            least_starts=(1, 10_000),
            least_peer_starts=(1, 100_000),
            least_failures=(1, 1000),
            half_life_s=(3600.0, 1e9),
            energy_wh=(0.001, 10_000.0),
            brief_s=(0.0, 3600.0),
            same_s=(0.0, 3600.0),
            live_max_age_s=(1.0, 86_400.0),
        )


@dataclass(slots=True)
class _Evse:
    """Attempts at one EVSE."""

    tx_id: str = ""  # open transaction, "" without
    ended_id: str = ""  # the one before
    begin_ns: int = 0
    charged_ns: int = -1  # when the station first said that it charges, -1: it did not
    suspended: bool = False
    counted: bool = False  # the open transaction is decided
    reg_mwh: int | None = None  # first register of the transaction
    failed: float = 0.0  # counts, fading
    starts: float = 0.0
    faded_ns: int = 0  # time to which they are faded
    in_a_row: int = 0
    row_ns: int = 0  # first failure of those in a row
    report_ns: int = -(2**62)  # last report of a failed start outside a transaction
    raised: bool = False
    live: bool = False
    start_ns: int = 0


class Detector(NodeDetector):
    """The detector behind `start_failures`."""

    spec = SPEC
    wanted = (StationEvent, Transaction)

    def __init__(self, config: Config, resume_state: dict[str, Any] | None = None) -> None:
        self._c = config
        self._half_life_ns = ns(config.half_life_s)
        self._energy_mwh = round(config.energy_wh * 1000)
        self._evses: dict[int, _Evse] = {}
        self._of_site: dict[int, list[int]] = {}
        if resume_state is not None:
            check_version(SPEC, VERSION, resume_state)
            for site, row, *values in resume_state["evses"]:
                self._evses[row] = _Evse(*values)
                self._of_site.setdefault(site, []).append(row)

    def _record(self, record: Any, seen: Observed, out: Emissions) -> None:
        if record.evse_row < 0:
            return
        if isinstance(record, Transaction):
            self._transaction(record, self._evse(record, seen), seen, out)
        elif not record.cleared and faults.failed_start(record.taxonomy, record.code):
            evse = self._evse(record, seen)
            if evse.tx_id:
                if not evse.counted:
                    evse.counted = True
                    self._count(record, evse, True, record.code, seen, out)
            elif record.time_ns - evse.report_ns > ns(self._c.same_s):
                evse.report_ns = record.time_ns
                self._count(record, evse, True, record.code, seen, out)

    def _evse(self, record: Any, seen: Observed) -> _Evse:
        found = self._evses.get(record.evse_row)
        if found is None:
            found = self._evses[record.evse_row] = _Evse()
            site = seen.devices.station_site[record.station_row]
            self._of_site.setdefault(site, []).append(record.evse_row)
        return found

    def _transaction(self, tx: Transaction, evse: _Evse, seen: Observed, out: Emissions) -> None:
        if tx.tx_id == evse.ended_id and tx.tx_id:
            return  # a late message of what is over
        if tx.tx_id != evse.tx_id:
            evse.tx_id, evse.begin_ns, evse.charged_ns = tx.tx_id, tx.time_ns, -1
            evse.suspended, evse.counted, evse.reg_mwh = False, False, None
        if tx.charging_state == "Charging" and evse.charged_ns < 0:
            evse.charged_ns = tx.time_ns
        evse.suspended = evse.suspended or tx.charging_state in {"SuspendedEV", "SuspendedEVSE"}
        moved = None
        if tx.reg_mwh is not None:
            evse.reg_mwh = tx.reg_mwh if evse.reg_mwh is None else evse.reg_mwh
            moved = tx.reg_mwh - evse.reg_mwh
        ended = tx.event_type == "Ended"
        if not evse.counted:
            failed = self._decided(tx, evse, moved, ended)
            if failed is not None:
                evse.counted = True
                self._count(tx, evse, failed, tx.stopped_reason or tx.trigger, seen, out)
        if ended:
            evse.ended_id, evse.tx_id = tx.tx_id, ""

    def _decided(self, tx: Transaction, evse: _Evse, moved: int | None, ended: bool) -> bool | None:
        """Return whether the start failed, None while that is open or says nothing of the connector."""
        if moved is not None and moved >= self._energy_mwh:
            return False
        if not ended:
            return None
        if tx.event_type == "Ended" and tx.seq_no == 0:
            return None  # nothing but its end is known
        if moved is None and evse.charged_ns >= 0:
            return False
        if evse.suspended or tx.stopped_reason in _NOT_ITS_FAULT:
            return None
        if evse.charged_ns >= 0 and tx.time_ns - evse.charged_ns < ns(self._c.brief_s):
            return None
        return True

    def _count(
        self,
        record: Transaction | StationEvent,
        evse: _Evse,
        failed: bool,
        reason: str,
        seen: Observed,
        out: Emissions,
    ) -> None:
        """Count one attempt and judge."""
        c, t = self._c, record.time_ns
        self._fade(evse, t)
        evse.starts += 1.0
        if failed:
            evse.failed += 1.0
            evse.row_ns = t if evse.in_a_row == 0 else evse.row_ns
            evse.in_a_row += 1
        else:
            evse.in_a_row = 0
        failed_peers, peers = self._peers(record, seen)
        rate = (failed_peers + 1.0) / (peers + 20.0)
        posterior = 0.0
        enough = evse.starts >= c.least_starts - 1.0 and peers >= c.least_peer_starts
        if enough and (evse.failed >= c.least_failures - 1.0 or evse.raised):
            posterior = twice_as_often(
                evse.failed + c.prior_starts * rate,
                evse.starts - evse.failed + c.prior_starts * (1.0 - rate),
                failed_peers + 1.0,
                peers - failed_peers + 19.0,
                c.ratio,
            )
        row = evse.in_a_row >= c.in_a_row
        live = record.at.live and record.at.recv_ns - t <= ns(c.live_max_age_s)
        kind = 0
        if failed and (row or posterior > c.posterior):
            if not evse.raised or (live and not evse.live):
                evse.start_ns = evse.start_ns if evse.raised else evse.row_ns
                evse.raised, evse.live, kind = True, live, RAISE
        elif evse.raised and not row and posterior < c.clear_posterior:
            evse.raised, kind = False, CLEAR
        if kind:
            words = {
                "in_a_row": float(evse.in_a_row),
                "failed": round(evse.failed, 6),
                "starts": round(evse.starts, 6),
                "site_rate": round(rate, 6),
                "posterior": round(posterior, 6),
            }
            out.add(
                SPEC,
                order=record.at.order,
                effect_ns=record.at.effect_ns,
                subject=record.evse_row,
                kind=kind,
                severity=WARNING,
                start_ns=evse.start_ns,
                time_ns=t,
                live=evse.live,
                score=max(posterior, evse.in_a_row / c.in_a_row),
                evidence=words | ({"reason": reason} if kind == RAISE else {}),
            )

    def _fade(self, evse: _Evse, t: int) -> None:
        if evse.starts and t > evse.faded_ns:
            share = 0.5 ** ((t - evse.faded_ns) / self._half_life_ns)
            evse.failed *= share
            evse.starts *= share
        evse.faded_ns = max(evse.faded_ns, t)

    def _peers(self, record: Transaction | StationEvent, seen: Observed) -> tuple[float, float]:
        """Return failed starts and starts of the site's other EVSEs, faded to their own last attempts."""
        failed = starts = 0.0
        for row in sorted(self._of_site[seen.devices.station_site[record.station_row]]):
            if row != record.evse_row:
                failed += self._evses[row].failed
                starts += self._evses[row].starts
        return failed, starts

    def _due(self, now_ns: int, order: int, seen: Observed, out: Emissions) -> None:
        """Nothing is ever overdue: attempts decide."""

    def snapshot(self) -> dict[str, Any]:
        """Return the whole state as plain data, copied."""
        names = _Evse.__slots__
        evses = [
            [site, row, *(getattr(self._evses[row], name) for name in names)]
            for site, rows in self._of_site.items()
            for row in rows
        ]
        return {"code": SPEC.code, "version": VERSION, "evses": evses}

    def nbytes(self) -> int:
        """Return the bytes of state held (an estimate: 400 an EVSE that had a transaction)."""
        return 400 * len(self._evses)


def build(config: Config, resume_state: dict[str, Any] | None = None) -> Detector:
    """Return the detector, with the state of `resume_state` if given."""
    return Detector(config, resume_state)
