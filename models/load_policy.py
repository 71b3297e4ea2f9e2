"""Load management as a policy of the control stage: readings and records in, SetChargingProfile out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import numpy as np

from ._load_wishes import PriceSource
from .batch import F64, I64, ReadingBatch
from .channels import CHANNEL_ID
from .command_states import is_open
from .command_types import LOAD, SAFETY, Ask
from .devices import DeviceTable
from .held_back import HeldTeller
from .load import LimitAsk, SiteLoad
from .load_rows import LimitRow
from .load_settings import SiteSettings
from .outputs import CommandRow
from .policies import Desk, Policy
from .records import Birth, Link, Operator, Record, Status, Transaction
from .shard import ShardBatch
from .units import NS_PER_MS

VERSION: Final = 1
KIND: Final = "load"
_LEGS: Final = tuple(CHANNEL_ID[f"Current.Import@L{leg}"] for leg in (1, 2, 3))
_CURRENT: Final = CHANNEL_ID["Current.Import"]
_POWER: Final = CHANNEL_ID["Power.Active.Import"]
_TICK_MS: Final = 1000
_OTHER, _METER = -1, -2
#: A station says this while a vehicle is plugged in (ConnectorStatusEnumType).
_TAKEN: Final = frozenset({"Occupied"})


class SitePlan(NamedTuple):
    """A site to manage: its settings and where its prices come from."""

    settings: SiteSettings
    prices: PriceSource | None = None


class _Waiting(NamedTuple):
    """Readings of managed sites in their order of effect, `at` of them taken."""

    order: I64
    evse: I64
    time_ms: I64
    amps: F64


_NONE: Final = _Waiting(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros((0, 3)))


class LoadPolicy(Policy):
    """Load management of the managed sites of one shard.

    Parameters
    ----------
    plans : mapping of site name to SitePlan
    resume_state : dict, optional
        What `snapshot` returned. Sites that are no longer managed are dropped.
    """

    def __init__(self, plans: Mapping[str, SitePlan], resume_state: dict[str, Any] | None = None) -> None:
        state = resume_state or {}
        saved = state.get("sites", {})
        self._plans = plans
        self._saved = {site: part for site, part in saved.items() if site in plans}
        self._sites: dict[str, SiteLoad] = {}
        self._boots: dict[int, int] = {int(node): boot for node, boot in state.get("boots", {}).items()}
        self._last_ms: int = state.get("last_ms", 0)
        self._held = HeldTeller(state.get("held"))
        #: managed EVSE rows of the shard -> name of the site; whether it is the site's meter
        self._mine: dict[int, tuple[str, bool]] = {}
        self._seen = 0
        self._devices = DeviceTable()
        self._waiting, self._taken = _NONE, 0
        for site in list(self._saved):
            self._site(site)

    def snapshot(self) -> dict[str, Any]:
        """Return the whole state as plain data."""
        sites = {name: site.snapshot() for name, site in sorted(self._sites.items())}
        return {
            "sites": sites,
            "boots": dict(self._boots),
            "last_ms": self._last_ms,
            "held": self._held.snapshot(),
        }

    def due_ms(self) -> int | None:
        """Return the next second, when there is anything to manage."""
        return self._last_ms // _TICK_MS * _TICK_MS + _TICK_MS if self._sites else None

    # -- what comes in -----------------------------------------------------------------------------

    def begin(self, batch: ShardBatch, desk: Desk) -> None:
        """Pick the readings of managed sites out of a batch."""
        if self._plans:
            self._know(batch.devices)
            self._waiting, self._taken = self._picked(batch.rows), 0

    def end(self, batch: ShardBatch, desk: Desk) -> None:
        """Take the readings after the last event: no event comes between them and the next batch."""
        self._take(None)

    def record(self, record: Record, desk: Desk) -> None:
        """Take in births, links, transactions, plugs and operators' wishes."""
        if not self._plans:
            return
        self._know(desk.devices)
        self._take(desk.order)
        match record:
            case Birth():
                self._birth(record, desk)
            case Link():
                site, station = self._station(record.station_row, desk.devices)
                if site is not None:
                    site.link(station, online=record.online, reboot=False)
            case Transaction():
                self._transaction(record, desk)
            case Status():
                self._status(record, desk)
            case Operator() if record.topic == KIND:
                wanted = self._sites.get(str(record.body.get("site")))
                if wanted is not None:
                    wanted.request(record.body, desk.now_ms)

    def command(self, row: CommandRow, desk: Desk) -> None:
        """Take in how a limit ended (one that never left is as good as refused), and what others command."""
        site = self._sites.get(row.site)
        if site is None or is_open(row.state):
            return
        if not row.cause.startswith("load/"):
            # one that was sent and not answered may have been obeyed all the same
            if row.sends and row.state != "rejected" and row.ended_ms == row.changed_ms:
                site.overruled(row.station, _evse_of(row), row.command, row.body, desk.now_ms)
            return
        if row.ended_ms == row.changed_ms:
            state = "rejected" if not row.sends else row.state
            site.answer(row.cause, state, desk.now_ms)

    def tick(self, desk: Desk) -> None:
        """Let every managed site decide."""
        self._take(desk.order)
        self._last_ms = desk.now_ms
        for name, site in sorted(self._sites.items()):
            outcome = site.tick(desk.now_ms)
            for ask in outcome.asks:
                desk.ask(_command(name, ask))
            for limit in outcome.limits:
                self._report(limit, desk)
            for load in outcome.loads:
                desk.report("loads", load)

    # -- parts -------------------------------------------------------------------------------------

    def _birth(self, record: Birth, desk: Desk) -> None:
        node = record.at.node_row
        known = self._boots.get(node)
        reboot = record.online and known is not None and record.at.boot != known
        if record.online:
            self._boots[node] = record.at.boot
        place = desk.devices.sites[int(desk.devices.node_site[node])]
        for item in record.evses:
            station_row = desk.devices.find_station(place, item.st or desk.devices.nodes[node])
            self._row(desk.devices.find_evse(station_row, item.evse))
        for station_row in desk.where.stations_of(node):
            site, station = self._station(station_row, desk.devices)
            if site is not None:
                site.link(station, online=record.online, reboot=reboot)

    def _transaction(self, record: Transaction, desk: Desk) -> None:
        evse = record.evse_row
        if evse < 0:
            behind = desk.devices.evses_of(record.station_row)
            evse = behind[0] if len(behind) == 1 else -1
        site, row = self._row(evse)
        if site is None or row < 0:
            return
        if record.event_type == "Ended":
            self._limits(site, row, desk)
        else:
            site.plug(row, desk.now_ms, record.tx_id)

    def _status(self, record: Status, desk: Desk) -> None:
        site, row = self._row(record.evse_row)
        if site is None or row < 0:
            return
        if record.status in _TAKEN:
            site.plug(row, desk.now_ms)
        elif record.status == "Available":
            self._limits(site, row, desk)

    def _limits(self, site: SiteLoad, row: int, desk: Desk) -> None:
        for limit in site.unplug(row, desk.now_ms):
            self._report(limit, desk)

    def _report(self, limit: LimitRow, desk: Desk) -> None:
        """Have a limit stored beside the energy, and bills know of a vehicle that it keeps waiting."""
        desk.report("limits", limit)
        told = self._held.take(limit)
        if told is not None:
            desk.publish(told)

    def _site(self, name: str) -> SiteLoad | None:
        found = self._sites.get(name)
        if found is None and name in self._plans:
            plan = self._plans[name]
            found = SiteLoad(plan.settings, plan.prices, self._saved.pop(name, None))
            self._sites[name] = found
        return found

    def _station(self, station_row: int, devices: DeviceTable) -> tuple[SiteLoad | None, str]:
        name = devices.sites[devices.station_site[station_row]]
        return self._sites.get(name), devices.stations[station_row]

    def _know(self, devices: DeviceTable) -> None:
        """Note which of the EVSEs that are new are managed; they join their site when they are heard of."""
        self._devices = devices
        for evse in range(self._seen, devices.n_evses):
            name, station, number = devices.names(evse)
            plan = self._plans.get(name)
            if plan is None:
                continue
            other = plan.settings.other
            meter = bool(other.station) and (station, number) == (other.station, other.evse)
            if meter or plan.settings.outlet(station, number) is not None:
                self._mine[evse] = name, meter
        self._seen = devices.n_evses

    def _row(self, evse: int) -> tuple[SiteLoad | None, int]:
        """Return the site of an EVSE and its row there, `_METER` for the meter of other load."""
        if evse not in self._mine:
            return None, _OTHER
        name, meter = self._mine[evse]
        site = self._site(name)
        if site is None or meter:
            return site, _METER
        devices = self._devices
        _, station, number = devices.names(evse)
        most = float(devices.max_a[evse])
        return site, site.row(station, number, int(devices.phases[evse]), None if most != most else most)

    def _picked(self, rows: ReadingBatch) -> _Waiting:
        if not self._mine or not len(rows):
            return _NONE
        mine = np.zeros(self._seen, np.bool_)
        mine[list(self._mine)] = True
        index = np.flatnonzero(mine[rows.evse] & (rows.live > 0))
        index = index[np.argsort(rows.order[index], kind="stable")]
        if not len(index):
            return _NONE
        picked = rows.take(index)
        amps = np.column_stack([picked.column(channel) for channel in _LEGS])
        return _Waiting(
            picked.order,
            picked.evse.astype(np.int64),
            picked.time_ns // NS_PER_MS,
            self._completed(picked, amps),
        )

    def _completed(self, rows: ReadingBatch, amps: F64) -> F64:
        """Return currents by leg; where a reading has none, that of every leg, or what its power makes."""
        bare = np.isnan(amps).all(axis=1)
        if not bare.any():
            return amps
        total, power = rows.column(_CURRENT), rows.column(_POWER)
        for i in np.flatnonzero(bare).tolist():
            evse = int(rows.evse[i])
            name, meter = self._mine[evse]
            settings = self._plans[name].settings
            legs = self._legs(settings, evse, meter)
            each = total[i] if not np.isnan(total[i]) else power[i] / (legs * settings.voltage_v)
            amps[i, :legs] = each
        return amps

    def _legs(self, settings: SiteSettings, evse: int, meter: bool) -> int:
        _, station, number = self._devices.names(evse)
        outlet = settings.outlet(station, number)
        if meter or outlet is None:
            return 3
        return 1 if self._devices.phases[evse] == 1 else len(outlet.wiring)

    def _take(self, order: int | None) -> None:
        """Hand the readings up to `order` (None: all) to their sites, each EVSE's one after the other."""
        waiting, start = self._waiting, self._taken
        end = len(waiting.order) if order is None else int(np.searchsorted(waiting.order, order, "right"))
        if end <= start:
            return
        self._taken = end
        left = np.arange(start, end)
        while len(left):
            _, first = np.unique(waiting.evse[left], return_index=True)
            self._hand(left[first])
            left = np.delete(left, first)

    def _hand(self, index: I64) -> None:
        """Hand over readings of EVSEs that differ from each other; those without any current say nothing."""
        waiting = self._waiting
        by_site: dict[int, tuple[SiteLoad, list[int], list[int]]] = {}
        for i in index.tolist():
            site, row = self._row(int(waiting.evse[i]))
            if site is None or np.isnan(waiting.amps[i]).all():
                continue
            if row == _METER:
                site.observe_other(waiting.amps[i].copy(), int(waiting.time_ms[i]))
                continue
            _, rows, places = by_site.setdefault(id(site), (site, [], []))
            rows.append(row)
            places.append(i)
        for site, rows, places in by_site.values():
            site.observe(np.array(rows, np.int64), waiting.amps[places], waiting.time_ms[places])


def _evse_of(row: CommandRow) -> int:
    """Return the EVSE that a profile is set or cleared of, 0: all of the station."""
    criteria = row.body.get("chargingProfileCriteria")
    told = row.body.get("evseId", criteria.get("evseId") if isinstance(criteria, dict) else None)
    return told if isinstance(told, int) else 0


def _command(site: str, ask: LimitAsk) -> Ask:
    return Ask(
        cause=ask.cause,
        site=site,
        station=ask.station,
        evse=ask.evse,
        command="SetChargingProfile",
        body=ask.body,
        by="load",
        priority=SAFETY if ask.priority == 0 else LOAD,
        expires_ms=ask.expires_ms,
        replaces=ask.replaces,
    )
