"""Results to outbox blobs: line protocol, ledger records, messages to publish.

The last stage. Which raw readings go to InfluxDB is a policy (``influx.raw``): all of them, none, or
``auto``: all while a shard's rate stays below the limit, above it those of EVSEs with an open finding. The
rate of a minute of journaled time decides on the next, so a replay decides alike.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from models import batch as b
from models.campaign_policy import PROGRESS
from models.channels import CHANNELS, REGISTER_CHANNEL
from models.devices import CONNECTOR_TYPES, DeviceTable
from models.errors import SnapshotError
from models.load_lines import load_lines
from models.outputs import (
    DeviceRow,
    FindingChange,
    LateRow,
    LatestRow,
    Publish,
    RollupRow,
    RollupRows,
)
from models.points import PointEncoder, action_lines, campaign_lines
from models.shard import ShardBatch
from models.topics import ROOT
from models.units import NO_REGISTER, NO_TIME, NS_PER_MS, NS_PER_S

VERSION: Final = 1
_MINUTE_NS: Final = 60 * NS_PER_S
_CHART_PERIOD_S: Final = 60
#: Findings of a shard whose raise is remembered, for the time until somebody does something about them.
_REMEMBERED: Final = 4_096
_encoder: Final = msgspec.msgpack.Encoder()

Blob = tuple[str, int, bytes]


@dataclass(frozen=True, slots=True)
class EmitConfig:
    """What leaves, and how often.

    Attributes
    ----------
    influx : bool
        Make line protocol at all.
    raw : str
        ``all``, ``auto`` or ``off``.
    raw_max_rows_per_s : int
        Readings per second over all shards above which ``auto`` cuts down.
    shards : int
        Shards that share that limit.
    latest_every_ns : int
        The newest reading of an EVSE is passed on at most this often (journaled time).
    publish : bool
        Publish findings over MQTT.
    retain_open : bool
        Keep a retained copy of each open finding.
    qos : int
    """

    influx: bool = True
    raw: str = "auto"
    raw_max_rows_per_s: int = 2000
    shards: int = 16
    latest_every_ns: int = 2 * NS_PER_S
    publish: bool = True
    retain_open: bool = True
    qos: int = 1


class EmitStage:
    """Encode what one shard's batches led to."""

    def __init__(self, shard: int, config: EmitConfig, resume_state: dict[str, Any] | None = None) -> None:
        state = resume_state or {"version": VERSION}
        if state["version"] != VERSION:
            raise SnapshotError(f"emit stage has version {state['version']!r}, this program reads {VERSION}")
        self.shard = shard
        self.config = config
        self._encoder: PointEncoder | None = None
        self._encoder_devices: DeviceTable | None = None
        # findings raised last: id -> (code, site, raised at, ms)
        self._raised: dict[str, tuple[str, str, int]] = {
            name: (code, site, raised_ms) for name, code, site, raised_ms in state.get("raised", [])
        }
        self._open: dict[int, int] = dict(state.get("open", {}))  # EVSE row -> open findings
        self._minute: int = state.get("minute", 0)
        self._rows_in_minute: int = state.get("rows_in_minute", 0)
        self._crowded: bool = state.get("crowded", False)
        self._latest_ns: NDArray[np.int64] = np.array(state.get("latest_ns", []), np.int64)

    def process(self, batch: ShardBatch) -> list[list[Blob]]:
        """Return one list of blobs."""
        out: list[Blob] = []
        self._add(out, "devices", _device_rows(batch))
        self._add(out, "findings", batch.findings)
        self._add(out, "finding_actions", batch.finding_actions)
        self._add(out, "intervals", batch.intervals)
        self._add(out, "latest", self._latest(batch))
        self._add(out, "late", _late_rows(batch))
        self._add(out, "dead", batch.dead)
        self._add(out, "rollups", _rollup_rows(batch))
        self._add(out, "sessions", batch.sessions)
        self._add(out, "cdrs", batch.cdrs)
        self._add(out, "commands", batch.commands)
        progress = batch.reported.pop(PROGRESS, [])
        for stream in sorted(batch.reported):
            self._add(out, stream, batch.reported[stream])
        if self.config.influx:
            points = self._points(batch) + campaign_lines(progress)
            if points:
                out.append(("points", self.shard, points))
        publishes = list(self._publications(batch.findings)) if self.config.publish else []
        self._add(out, "publish", [*publishes, *batch.publishes])
        if batch.account is not None:
            self._add(out, "account", [batch.account])
        return [out]

    def _add(self, out: list[Blob], stream: str, records: Sequence[Any]) -> None:
        if records:
            out.append((stream, self.shard, _encoder.encode(records)))

    def finish(self) -> Iterable[list[Blob]]:
        """Nothing is held back."""
        return []

    def _points(self, batch: ShardBatch) -> bytes:
        if self._encoder is None or self._encoder_devices is not batch.devices:
            self._encoder = PointEncoder(batch.devices)
            self._encoder_devices = batch.devices
        encoder = self._encoder
        mask = self._raw_mask(batch)
        parts = [encoder.readings(batch.rows, mask)] if mask is None or mask.any() else []
        parts += [encoder.rollups(rows) for rows in batch.rollups]
        if batch.intervals:
            parts.append(encoder.intervals(batch.intervals))
        if batch.findings:
            parts.append(encoder.findings(batch.findings))
        if batch.cdrs:
            parts.append(encoder.bills(batch.cdrs))
        parts += self._actions(batch)
        if "loads" in batch.reported:
            parts.append(load_lines(batch.reported["loads"]))
        return b"".join(parts)

    def _actions(self, batch: ShardBatch) -> Iterable[bytes]:
        """Yield the points of what people did about findings raised before it."""
        changes = iter(batch.findings)
        change = next(changes, None)
        for action in [*batch.finding_actions, None]:
            while change is not None and (action is None or change.changed_at <= action.at):
                if change.state == "raised" and change.live:
                    self._raised.pop(change.finding_id, None)
                    self._raised[change.finding_id] = (change.code, change.site, change.raised_at)
                    if len(self._raised) > _REMEMBERED:
                        del self._raised[next(iter(self._raised))]
                change = next(changes, None)
            if action is not None:
                yield action_lines([action], self._raised)

    def _raw_mask(self, batch: ShardBatch) -> NDArray[np.bool_] | None:
        """Return which readings are written raw; None: all."""
        rows = batch.rows
        n = len(rows)
        opened = self._rows_with_findings(batch)
        if self.config.raw == "off" or n == 0:
            return np.zeros(n, np.bool_)
        if self.config.raw == "all":
            return None
        wanted = np.ones(n, np.bool_)
        limit = self.config.raw_max_rows_per_s * 60 / self.config.shards
        minutes = rows.effect_ns // _MINUTE_NS
        for minute in np.unique(minutes).tolist():
            here = minutes == minute
            if minute > self._minute:
                self._crowded = minute == self._minute + 1 and self._rows_in_minute > limit
                self._minute, self._rows_in_minute = minute, 0
            self._rows_in_minute += int(here.sum())
            if self._crowded:
                wanted &= ~here
        wanted |= opened
        return None if wanted.all() else wanted

    def _rows_with_findings(self, batch: ShardBatch) -> NDArray[np.bool_]:
        """Return which readings came while their EVSE had an open finding, also the one that opened it."""
        rows = batch.rows
        opened = np.isin(rows.evse, list(self._open)) if self._open else np.zeros(len(rows), np.bool_)
        for change in batch.findings:
            evse = self._note(batch.devices, change)
            if evse >= 0:
                opened[(rows.evse == evse) & (rows.order >= change.order)] = evse in self._open
        return opened

    def _note(self, devices: DeviceTable, change: FindingChange) -> int:
        """Keep count of the open findings of each EVSE; return the EVSE's row, -1 if it is not about one."""
        if change.evse is None or change.station is None or not change.live or change.state == "updated":
            return -1
        evse = devices.find_evse(devices.find_station(change.site, change.station), change.evse)
        count = self._open.get(evse, 0) + (1 if change.state == "raised" else -1)
        if count > 0:
            self._open[evse] = count
        else:
            self._open.pop(evse, None)
        return evse

    def _latest(self, batch: ShardBatch) -> list[LatestRow]:
        rows = batch.rows
        if len(rows) == 0:
            return []
        n = batch.devices.n_evses
        if n > len(self._latest_ns):
            grown = np.full(max(n, 2 * len(self._latest_ns)), NO_TIME, np.int64)
            grown[: len(self._latest_ns)] = self._latest_ns
            self._latest_ns = grown
        last = np.flatnonzero(np.append(rows.evse[1:] != rows.evse[:-1], True))
        evses, effect = rows.evse[last], rows.effect_ns[last]
        before = self._latest_ns[evses]
        due = (before == NO_TIME) | (effect - before >= self.config.latest_every_ns)
        self._latest_ns[evses[due]] = effect[due]
        return [self._latest_row(batch, int(i)) for i in last[due]]

    def _latest_row(self, batch: ShardBatch, i: int) -> LatestRow:
        rows = batch.rows
        site, station, evse = batch.devices.names(int(rows.evse[i]))
        column = rows.values[:, i]
        values = {}
        for channel, slot in enumerate(rows.slot_of.tolist()):
            if slot >= 0 and channel != REGISTER_CHANNEL and column[slot] == column[slot]:
                values[CHANNELS[channel].field] = float(column[slot])
        register = int(rows.reg_mwh[i])
        state = int(rows.state[i])
        return LatestRow(
            site=site,
            station=station,
            evse=evse,
            time_ms=int(rows.time_ns[i]) // NS_PER_MS,
            status=status_word(state),
            state=state,
            reg_mwh=None if register == NO_REGISTER else register,
            values=values,
        )

    def _publications(self, changes: list[FindingChange]) -> Iterable[Publish]:
        for change in changes:
            if not change.live or change.parent is not None:
                continue
            node = change.node or "_site"
            topic = f"{ROOT}/{change.site}/{node}/finding"
            payload = msgspec.json.encode(change.published())
            yield Publish(topic=topic, payload=payload, qos=self.config.qos)
            if self.config.retain_open:
                place = f"{change.station}/{change.evse or 0}" if change.station else str(change.evse or 0)
                yield Publish(
                    topic=f"{topic}/open/{place}/{change.code}",
                    payload=b"" if change.state == "cleared" else payload,
                    qos=self.config.qos,
                    retain=True,
                )

    def snapshot(self) -> dict[str, Any]:
        """Return the whole state as plain data."""
        return {
            "version": VERSION,
            "raised": [[name, *about] for name, about in self._raised.items()],
            "open": dict(self._open),
            "minute": self._minute,
            "rows_in_minute": self._rows_in_minute,
            "crowded": self._crowded,
            "latest_ns": self._latest_ns.copy(),
        }


def status_word(state: int) -> str:
    """Return what a person calls the context bits of a reading."""
    for bit, word in (
        (b.FAULTED, "Faulted"),
        (b.UNAVAILABLE, "Unavailable"),
        (b.CHARGING, "Charging"),
        (b.SUSPENDED_EV, "SuspendedEV"),
        (b.SUSPENDED_EVSE, "SuspendedEVSE"),
        (b.IN_TRANSACTION, "Occupied"),
        (b.OCCUPIED, "Occupied"),
        (b.STATE_KNOWN, "Available"),
    ):
        if state & bit:
            return word
    return "Unknown"


def _rollup_rows(batch: ShardBatch) -> list[RollupRow]:
    """Return the closed minutes for the page's power chart."""
    out = []
    for rows in batch.rollups:
        if rows.period_s != _CHART_PERIOD_S:
            continue
        power = _power_mean_w(rows)
        for i, evse_row in enumerate(rows.evse.tolist()):
            site, station, evse = batch.devices.names(evse_row)
            register = int(rows.energy_mwh[i])
            out.append(
                RollupRow(
                    site=site,
                    station=station,
                    evse=evse,
                    start_ms=int(rows.start_ns[i]) // NS_PER_MS,
                    readings=int(rows.count[i]),
                    power_mean_w=power[i] if power[i] == power[i] else None,
                    energy_mwh=None if register == NO_REGISTER else register,
                )
            )
    return out


def _power_mean_w(rows: RollupRows) -> list[float]:
    """Return the mean power of each window, NaN where no reading of it carried power."""
    if "power_mean_w" not in rows.fields:
        return [math.nan] * len(rows.evse)
    power: list[float] = rows.values[rows.fields.index("power_mean_w")].tolist()
    return power


def _device_rows(batch: ShardBatch) -> list[DeviceRow]:
    devices = batch.devices
    out = []
    for row in batch.new_devices:
        site, station, evse = devices.names(row)
        node = int(devices.evse_node[row])
        p_max, max_a = float(devices.p_max_w[row]), float(devices.max_a[row])
        out.append(
            DeviceRow(
                site=site,
                station=station,
                evse=evse,
                node=devices.nodes[node],
                vendor=devices.node_vendor[node],
                model=devices.node_model[node],
                fw=devices.node_fw[node],
                connector_type=CONNECTOR_TYPES[int(devices.conn_type[row])],
                u_n_v=float(devices.u_n_v[row]),
                phases=int(devices.phases[row]),
                p_max_w=p_max if p_max == p_max else None,
                max_a=max_a if max_a == max_a else None,
                dc=bool(devices.dc[row]),
                meter_serial=devices.meter_serial[row],
            )
        )
    return out


def _late_rows(batch: ShardBatch) -> list[LateRow]:
    late = batch.late
    if len(late) == 0:
        return []
    out = []
    keys = np.stack([late.order, late.evse.astype(np.int64)], axis=1)
    for order, evse in np.unique(keys, axis=0).tolist():
        times = late.time_ns[(late.order == order) & (late.evse == evse)]
        site, station, evse_id = batch.devices.names(evse)
        out.append(
            LateRow(
                shard=batch.shard,
                order=order,
                site=site,
                station=station,
                evse=evse_id,
                first_ms=int(times.min()) // NS_PER_MS,
                last_ms=int(times.max()) // NS_PER_MS,
                count=len(times),
            )
        )
    return out
