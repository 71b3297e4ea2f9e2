"""Payloads of the native schema: sequence numbers, births, batches of rows, status and transactions."""

from __future__ import annotations

import random
from typing import Any, Final

import msgspec
import numpy as np

from .messages import SimMessage
from .plant import I64, Plant
from .sampling import Group, Sampler
from .topology import Index, Topology, plain
from .transport import Transport

_encode: Final = msgspec.json.encode
_ROOT: Final = "evt/v1"


class Wire:
    """Speaks for every node of the fleet.

    Attributes
    ----------
    clock_ms : ndarray, shape (n_nodes,), int64
        Error of each node's clock, ms; faults add to it.
    drop_share : ndarray, shape (n_nodes,)
        Share of meter messages that are lost after they got their number; 0 = healthy.
    rssi_add : ndarray, shape (n_nodes,)
        Added to the signal strength of heartbeats, dB.
    station_up : list of bool
        Whether a gateway reaches the station.
    fw : list of str
        Firmware of each node, for its births.
    """

    def __init__(
        self,
        topology: Topology,
        plant: Plant,
        sampler: Sampler,
        transport: Transport,
        rng: random.Random,
        start_ms: int,
    ) -> None:
        n = len(topology.nodes)
        self.topology, self.plant, self.sampler, self.transport = topology, plant, sampler, transport
        self.rng = rng
        self.boot = [rng.randrange(20, 90) for _ in range(n)]
        self.cid = [rng.randrange(1, 4) for _ in range(n)]
        self.seq = [0] * n
        self.boot_ms = [start_ms - rng.randrange(3_600_000, 900_000_000) for _ in range(n)]
        skew = transport.config.skew_max_ms
        self.clock_ms = np.array([int(rng.uniform(-skew, skew)) for _ in range(n)], np.int64)
        self.drop_share = np.zeros(n)
        self.rssi_add = np.zeros(n)
        self.station_up = [True] * len(topology.stations)
        self.fw = [node.fw for node in topology.nodes]
        self.phase_ms = [0] * n
        self._held: dict[int, list[dict[str, Any]]] = {}
        self._topic = [
            f"{_ROOT}/{topology.sites[topology.node_site[row]].site}/{node.node}/up/"
            for row, node in enumerate(topology.nodes)
        ]
        evses = range(topology.n_evses)
        self.status_of: list[tuple[str, str]] = [("Available", "Available")] * topology.n_evses
        self.tx_of: list[str] = [""] * topology.n_evses
        self._breaks: dict[int, list[tuple[int, str]]] = {}
        self._sent_rows = [0] * topology.n_evses
        self._evse_ids = [self._ids(evse) for evse in evses]
        self._prefix = [_encode(self._evse_ids[evse])[:-1] for evse in evses]
        self._channels: dict[tuple[str, ...], bytes] = {}
        stations = [topology.stations[row] for row in topology.evse_station]
        self._reported = [(s.fast, s.slow_channels, s.slow_every) for s in stations]

    def _ids(self, evse: int) -> dict[str, Any]:
        topology = self.topology
        station = topology.evse_station[evse]
        gateway = topology.nodes[topology.station_node[station]].gateway
        out: dict[str, Any] = {"st": topology.stations[station].station} if gateway else {}
        return out | {"evse": topology.evse_number[evse], "conn": 1}

    # -- sending ---------------------------------------------------------------------------------

    def local_ms(self, node: int, now_ms: int) -> int:
        """Return what the clock of a node says at a tick."""
        return now_ms + self.phase_ms[node] + int(self.clock_ms[node])

    def _send(self, node: int, now_ms: int, kind: str, body: bytes, *, lost: bool = False) -> None:
        """Send a QoS 1 message that takes a number; `body` is the JSON after the head, with closing brace."""
        self.seq[node] += 1
        if lost:
            return
        boot, seq = self.boot[node], self.seq[node]
        payload = b'{"v":1,"boot":%d,"seq":%d,%s' % (boot, seq, body)
        message = SimMessage(
            now_ms + self.phase_ms[node], self._topic[node] + kind, payload, 1, False, node, boot, seq
        )
        self.transport.send(message)

    def _items(self, node: int, now_ms: int, kind: str, items: list[dict[str, Any]]) -> None:
        self._send(node, now_ms, kind, b'"items":' + _encode(items) + b"}")

    def _item(self, station: int, now_ms: int, kind: str, item: dict[str, Any]) -> None:
        """Send one item, or keep it while the gateway does not reach the station."""
        if self.station_up[station]:
            self._items(self.topology.station_node[station], now_ms, kind, [item])
        else:
            self._held.setdefault(station, []).append({"kind": kind} | item)

    # -- connections -----------------------------------------------------------------------------

    def will(self, node: int) -> bytes:
        """Return the will of the node's present connection."""
        return b'{"v":1,"online":false,"boot":%d,"cid":%d}' % (self.boot[node], self.cid[node])

    def conn_topic(self, node: int) -> str:
        """Return the topic of births and wills of a node."""
        return self._topic[node] + "conn"

    def send_will(self, node: int, now_ms: int) -> None:
        """Let the broker publish the will."""
        sent = now_ms + self.phase_ms[node]
        message = SimMessage(sent, self.conn_topic(node), self.will(node), 1, True, node, will=True)
        self.transport.send(message, past_block=True)

    def send_birth(self, node: int, now_ms: int) -> None:
        """Send the retained birth of the node's present connection."""
        topology = self.topology
        config = topology.nodes[node]
        evses = [e for s in topology.node_stations[node] for e in topology.station_evses[s]]
        body = {
            "v": 1,
            "online": True,
            "boot": self.boot[node],
            "cid": self.cid[node],
            "model": config.model,
            "vendor": config.vendor,
            "serial": topology.node_serial[node],
            "fw": self.fw[node],
            "hb_s": plain(config.hb_s),
            "sample_s": plain(config.sample_s),
            "batch_s": plain(config.batch_s),
            "proto": "native-1",
            "evses": [topology.declared(e, with_station=config.gateway) for e in evses],
        }
        sent = now_ms + self.phase_ms[node]
        message = SimMessage(sent, self.conn_topic(node), _encode(body), 1, True, node)
        self.transport.send(message, past_block=True)

    def introduce(self, node: int, now_ms: int) -> None:
        """Send what follows a birth: a gateway's links, and the status of every connector."""
        topology = self.topology
        local = self.local_ms(node, now_ms)
        config = topology.nodes[node]
        if config.gateway:
            links: list[dict[str, Any]] = []
            for station in topology.node_stations[node]:
                link = {
                    "st": topology.stations[station].station,
                    "t": local,
                    "online": self.station_up[station],
                }
                if self.station_up[station]:
                    evses = topology.station_evses[station]
                    link["evses"] = [topology.declared(e, with_station=True) for e in evses]
                links.append(link)
            self._items(node, now_ms, "link", links)
        items = [
            self._status_item(evse, local)
            for station in topology.node_stations[node]
            if self.station_up[station]
            for evse in topology.station_evses[station]
        ]
        if items:
            self._items(node, now_ms, "status", items)

    def reconnect(self, node: int, now_ms: int) -> None:
        """Close the connection cleanly and open the next one."""
        self.cid[node] += 1
        self.send_birth(node, now_ms)
        self.introduce(node, now_ms)

    def tell(self, node: int, now_ms: int, kind: str, body: dict[str, Any]) -> None:
        """Send one flat message, such as the answer to a command."""
        self._send(node, now_ms, kind, _encode(body)[1:])

    def reboot(self, node: int, now_ms: int) -> None:
        """Boot the node: numbers start again."""
        self.boot[node] += 1
        self.cid[node] = 1
        self.seq[node] = 0
        self.boot_ms[node] = now_ms
        self.send_birth(node, now_ms)
        self.introduce(node, now_ms)

    def connection_back(self, node: int, now_ms: int) -> None:
        """Open the next connection after a loss: birth, then the backlog, then the status of now."""
        self.cid[node] += 1
        self.send_birth(node, now_ms)
        self.transport.unblock(node, now_ms)
        self.introduce(node, now_ms)

    def station_link(self, station: int, now_ms: int, *, online: bool, reason: str = "") -> None:
        """Let a gateway lose or find a station behind it; what the station kept is sent when it is found."""
        self.station_up[station] = online
        topology = self.topology
        node = topology.station_node[station]
        link: dict[str, Any] = {
            "st": topology.stations[station].station,
            "t": self.local_ms(node, now_ms),
            "online": online,
        }
        if reason:
            link["reason"] = reason
        if online:
            link["evses"] = [topology.declared(e, with_station=True) for e in topology.station_evses[station]]
        self._items(node, now_ms, "link", [link])
        if not online:
            return
        for item in self._held.pop(station, []):
            kind = item.pop("kind")
            self._items(node, now_ms, kind, [item | {"offline": True} if kind == "tx" else item])
        local = self.local_ms(node, now_ms)
        items = [self._status_item(evse, local) for evse in topology.station_evses[station]]
        self._items(node, now_ms, "status", items)

    def heartbeat(self, node: int, now_ms: int) -> None:
        """Send a heartbeat; without a connection it is lost."""
        sent = now_ms + self.phase_ms[node]
        body: dict[str, Any] = {
            "v": 1,
            "boot": self.boot[node],
            "seq": self.seq[node],
            "t": sent + int(self.clock_ms[node]),
            "uptime_s": (now_ms - self.boot_ms[node]) // 1000,
        }
        if not self.topology.nodes[node].gateway:
            body["rssi"] = -56 - node * 7 % 17 + self.rng.randrange(-2, 3) + int(self.rssi_add[node])
        queued = self.transport.backlog(node)
        if queued:
            body["queue"] = queued
        body["clock_src"] = "ntp"
        message = SimMessage(
            sent, self._topic[node] + "hb", _encode(body), 0, False, node, self.boot[node], -1
        )
        self.transport.send(message)

    # -- events ----------------------------------------------------------------------------------

    def _status_item(self, evse: int, local_ms: int) -> dict[str, Any]:
        status, status16 = self.status_of[evse]
        item = self._evse_ids[evse] | {"t": local_ms, "status": status}
        if self.topology.stations[self.topology.evse_station[evse]].status16:
            item["status16"] = status16
        return item

    def status(self, evse: int, now_ms: int, status: str, status16: str) -> None:
        """Send the status of a connector if what the station says of it changes."""
        before = self.status_of[evse]
        self.status_of[evse] = (status, status16)
        station = int(self.topology.evse_station[evse])
        if status == before[0] and (status16 == before[1] or not self.topology.stations[station].status16):
            return
        node = self.topology.station_node[station]
        self._item(station, now_ms, "status", self._status_item(evse, self.local_ms(node, now_ms)))

    def transaction(
        self,
        evse: int,
        now_ms: int,
        tx_id: str,
        seq_no: int,
        event_type: str,
        trigger: str,
        state: str,
        extra: dict[str, Any] | None = None,
    ) -> None:
        """Send one transaction message with the register of now."""
        topology = self.topology
        station = int(topology.evse_station[evse])
        node = topology.station_node[station]
        mwh = int(self.plant.shown_mwh(np.array([evse], np.intp))[0])
        if event_type in {"Started", "Ended"}:
            self._break(evse, tx_id if event_type == "Started" else "")
        item = self._evse_ids[evse] | {
            "t": self.local_ms(node, now_ms),
            "txId": tx_id,
            "seqNo": seq_no,
            "eventType": event_type,
            "triggerReason": trigger,
            "chargingState": state,
        }
        item |= extra or {}
        item["reg_wh"] = plain(mwh / 1000)
        self._item(station, now_ms, "tx", item)

    def event(self, station: int, evse: int, now_ms: int, **fields: Any) -> None:
        """Send a station event; `evse` -1 = the whole station. Fields as in the schema of ``up/event``."""
        node = self.topology.station_node[station]
        ids: dict[str, Any] = (
            dict(self._evse_ids[evse])
            if evse >= 0
            else {"st": self.topology.stations[station].station}
            if self.topology.nodes[node].gateway
            else {}
        )
        item = (
            ids | {"t": self.local_ms(node, now_ms), "eventId": f"{self.rng.getrandbits(48):012x}"} | fields
        )
        self._item(station, now_ms, "event", item)

    def _break(self, evse: int, tx_id: str) -> None:
        """Note that rows from now on belong to another transaction."""
        group, place = self._rows_of(evse)
        count = int(group.count[place])
        if count:
            self._breaks.setdefault(evse, []).append((count, self.tx_of[evse]))
        self.tx_of[evse] = tx_id

    # -- rows ------------------------------------------------------------------------------------

    def sample_times(self, evses: Index, now_ms: int, jitter_ms: I64) -> I64:
        """Return the station times of samples taken at a tick."""
        node = self.topology.evse_node[evses]
        return now_ms + self._phases()[node] + self.clock_ms[node] + jitter_ms

    def _phases(self) -> I64:
        return np.array(self.phase_ms, np.int64)

    def _rows_of(self, evse: int) -> tuple[Group, int]:
        sampler = self.sampler
        return sampler.groups[sampler.group_of[evse]], int(sampler.place_of[evse])

    def flush(self, node: int, now_ms: int) -> None:
        """Send the rows of a node that wait, if any."""
        series: list[bytes] = []
        topology = self.topology
        for station in topology.node_stations[node]:
            for evse in topology.station_evses[station]:
                series.extend(self._series(evse))
        if series:
            share = float(self.drop_share[node])
            lost = share > 0 and self.rng.random() < share
            self._send(node, now_ms, "meter", b'"series":[' + b",".join(series) + b"]}", lost=lost)

    def _series(self, evse: int) -> list[bytes]:
        group, place = self._rows_of(evse)
        count = int(group.count[place])
        if not count:
            return []
        group.count[place] = 0
        fast, slow, every = self._reported[evse]
        columns = _columns(group, place, count)
        times = group.time_ms[place, :count].tolist()
        split = len(fast)
        out: list[bytes] = []
        begin = 0
        for end, tx_id in [*self._breaks.pop(evse, ()), (count, self.tx_of[evse])]:
            if end > begin:
                head = self._prefix[evse] + (b',"tx":"%s"' % tx_id.encode() if tx_id else b"")
                out.append(self._rows(head, fast, times, columns[:split], slice(begin, end)))
                first = begin + -(self._sent_rows[evse] + begin) % every
                if slow and first < end:
                    out.append(self._rows(head, slow, times, columns[split:], slice(first, end, every)))
                begin = end
        self._sent_rows[evse] += count
        return out

    def _rows(
        self, head: bytes, channels: tuple[str, ...], times: list[int], columns: list[list[Any]], part: slice
    ) -> bytes:
        names = self._channels.get(channels)
        if names is None:
            names = self._channels[channels] = _encode(channels)
        base = times[part.start]
        rows = list(zip([t - base for t in times[part]], *(c[part] for c in columns), strict=True))
        return b'%s,"t0":%d,"ch":%s,"rows":%s}' % (head, base, names, _encode(rows))


def _columns(group: Group, place: int, count: int) -> list[list[Any]]:
    """Return the waiting values of one EVSE as a list per channel; NaN is encoded as null."""
    columns: list[list[Any]] = group.values[place, :, :count].tolist()
    for row in group.whole:
        columns[row] = [int(value) if value == value else None for value in columns[row]]
    return columns
