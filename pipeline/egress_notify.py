"""Messages about findings: what is due is planned once and put into an outbox of each route; a drain of its
own delivers it, so that a mail server that is away delays neither another route nor the worker's outbox.
"""

from __future__ import annotations

import dataclasses
import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from connectors.mqtt import Publisher
from connectors.notice_store import Key, NoticeStore, notices_path
from connectors.notify import AppriseChannel, Channel, MqttChannel
from connectors.outbox import OutboxCursors, OutboxWriter, outbox_cursors_path
from models.errors import Refused, RetryLater
from models.notices import Notice, NoticeItem, NoticePlanner, RouteRule, notice_of, zone_of
from models.outputs import Account, FindingAction, FindingChange
from models.units import NS_PER_MS

from .config import Config
from .egress_sinks import FAST_S, SLOW_S, Letter, Record, Sink
from .ingest import mqtt_settings

_LOG = logging.getLogger("chargestream.notify")

CONSUMER: Final = "notify"
#: More messages than this that wait for one route go as one: some servers take one in five seconds.
PILE: Final = 3
_TRIM_S: Final = 600.0
_UNKNOWN: Final = "this program ended while it was being sent: it may have arrived, so it is not sent again"


def route_outbox(data_dir: Path, route: str) -> Path:
    """Return where the messages of a route wait."""
    return data_dir / "notify" / f"route-{route}.db"


class NoticeDesk:
    """The planner and the outboxes of the routes, shared by the threads of all workers' outboxes.

    Parameters
    ----------
    data_dir : Path
    rules : callable
        Returns the rules, given since when each route is there.
    routes : sequence of str
    wall_ns : callable
        The machine's clock: when a new route was set up, and the age of records.
    """

    def __init__(
        self,
        data_dir: Path,
        rules: Callable[[dict[str, int]], list[RouteRule]],
        routes: Sequence[str],
        wall_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self._lock = threading.Lock()
        self._store = NoticeStore(notices_path(data_dir))
        self._rules = rules(self._store.since(routes, wall_ns() // NS_PER_MS))
        self._boxes = {r: OutboxWriter(route_outbox(data_dir, r), clock_ns=wall_ns) for r in routes}
        self._planner: NoticePlanner | None = None
        self._trim_at = 0.0
        self._decoders: dict[str, msgspec.msgpack.Decoder[Any]] = {
            "findings": msgspec.msgpack.Decoder(list[FindingChange]),
            "finding_actions": msgspec.msgpack.Decoder(list[FindingAction]),
            "account": msgspec.msgpack.Decoder(list[Account]),
            "notices": msgspec.msgpack.Decoder(list[Notice]),
        }

    def take(self, records: Sequence[tuple[str, Record]]) -> list[Letter]:
        """Plan what `records` cause; what is due waits in the routes' outboxes when this returns.

        Raises
        ------
        StorageError
            If it cannot be stored: nothing is forgotten, the same records may be given again.
        """
        letters: list[Letter] = []
        with self._lock:
            planner = self._planner or NoticePlanner(self._rules, *self._store.load())
            self._planner = None  # what fails halfway begins anew from what is stored
            due: list[Notice] = []
            for stream, record in records:
                try:
                    rows = self._decoders[stream].decode(record.blob)
                except (msgspec.DecodeError, UnicodeDecodeError) as error:
                    letters.append(Letter(record.seq, record.blob, f"cannot be read: {error}"))
                    continue
                for row in rows:
                    due += _told_by(planner, row, record.shard)
            self._put(due)
            self._store.save(planner)
            self._trim()
            self._planner = planner
        return letters

    def _put(self, due: Sequence[Notice]) -> None:
        for notice in due:
            box = self._boxes.get(notice.route)
            if box is None:
                _LOG.warning("route %s is gone: %d states are not told", notice.route, len(notice.items))
            else:
                box.append([("notices", 0, msgspec.msgpack.encode([notice]))])
        for route in {notice.route for notice in due} & self._boxes.keys():
            self._boxes[route].commit()

    def _trim(self) -> None:
        """Drop delivered messages, now and then."""
        if time.monotonic() < self._trim_at:
            return
        self._trim_at = time.monotonic() + _TRIM_S
        for box in self._boxes.values():
            with OutboxCursors(outbox_cursors_path(box.path)) as cursors:
                box.trim({"notices": cursors.get(CONSUMER, "notices")})

    def close(self) -> None:
        """Close all files."""
        for box in self._boxes.values():
            box.close()
        self._store.close()


def _told_by(planner: NoticePlanner, row: Any, shard: int) -> list[Notice]:
    if isinstance(row, FindingChange):
        return planner.change(row)
    if isinstance(row, FindingAction):
        return planner.action(row, shard)
    if isinstance(row, Account):
        return planner.clock(row.shard, row.through_ms)
    return [row]  # a message put back from the dead-letter


class NotifySink:
    """Takes findings, actions and the journal's time out of one worker's outbox to the desk."""

    name = CONSUMER
    streams: Mapping[str, float] = dict.fromkeys(
        ("findings", "finding_actions", "account", "notices"), SLOW_S
    )

    def __init__(self, desk: NoticeDesk) -> None:
        self._desk = desk

    def deliver(self, stream: str, records: Sequence[Record]) -> list[Letter]:
        """Plan what records of one stream cause."""
        return self._desk.take([(stream, record) for record in records])

    def deliver_in_order(self, records: Sequence[tuple[str, Record]]) -> list[Letter]:
        """Plan what records of all streams cause, in their order."""
        return self._desk.take(records)

    def close(self) -> None:
        """Nothing: the desk belongs to all threads."""


class RouteSink:
    """Sends the messages of one route, each state of a finding at most once.

    Parameters
    ----------
    route : str
    channel : callable
        Makes the channel when it is first needed, in the thread that uses it.
    store : Path
        The notices file.
    """

    name = CONSUMER
    streams: Mapping[str, float] = {"notices": FAST_S * 4}

    def __init__(self, route: str, channel: Callable[[], Channel], store: Path) -> None:
        self.route = route
        self._make, self._path = channel, store
        self._channel: Channel | None = None
        self._store: NoticeStore | None = None
        self._decoder = msgspec.msgpack.Decoder(list[Notice])
        self._mine: set[Key] = set()  # begun by this process

    def deliver(self, stream: str, records: Sequence[Record]) -> list[Letter]:
        """Send what was not sent before; many at once go as one message."""
        letters: list[Letter] = []
        notices: list[tuple[int, Notice]] = []
        for record in records:
            try:
                notices += [(record.seq, notice) for notice in self._decoder.decode(record.blob)]
            except (msgspec.DecodeError, UnicodeDecodeError) as error:
                letters.append(Letter(record.seq, record.blob, f"cannot be read: {error}"))
        fresh = [(seq, left) for seq, notice in notices if (left := self._unsent(seq, notice, letters))]
        if len(fresh) > PILE:
            items = {(i.finding_id, i.state): i for _, notice in fresh for i in notice.items}
            fresh = [(fresh[-1][0], notice_of(self.route, fresh[-1][1].at, items.values()))]
        for seq, notice in fresh:
            letters += self._send(seq, notice)
        return letters

    def _unsent(self, seq: int, notice: Notice, letters: list[Letter]) -> Notice | None:
        """Return what of a message nobody has sent; what an earlier process began becomes a letter."""
        store = self._open()
        keys = [(item.finding_id, item.state) for item in notice.items]
        states = store.states(self.route, keys)
        lost = [k for k in keys if states.get(k) is False and k not in self._mine]
        if lost:
            items = [item for item in notice.items if (item.finding_id, item.state) in lost]
            part = notice_of(self.route, notice.at, items)
            letters.append(Letter(seq, msgspec.msgpack.encode([part]), _UNKNOWN))
            store.take_back(self.route, lost)
        left = [i for i in notice.items if (i.finding_id, i.state) not in states]
        if len(left) == len(notice.items):
            return notice
        return notice_of(self.route, notice.at, left) if left else None

    def _send(self, seq: int, notice: Notice) -> list[Letter]:
        store = self._open()
        keys = [(item.finding_id, item.state) for item in notice.items]
        if store.states(self.route, keys):
            return self._send_rest(seq, notice)
        self._mine |= set(keys)
        store.begin(self.route, keys)
        try:
            said = self._ready().send(notice)
        except Refused as error:
            store.take_back(self.route, keys)
            return [Letter(seq, msgspec.msgpack.encode([notice]), f"route {self.route}: {error}")]
        except RetryLater as error:
            store.take_back(self.route, keys)
            raise RetryLater(f"route {self.route}: {error}", error.delay_s) from error
        store.sent(self.route, keys)
        self._mine -= set(keys)
        _LOG.info(
            "route %s: %d %s told: %s", self.route, len(keys), "state" if len(keys) == 1 else "states", said
        )
        return []

    def _send_rest(self, seq: int, notice: Notice) -> list[Letter]:
        """Send what the messages before it in the same run did not say."""
        letters: list[Letter] = []
        left = self._unsent(seq, notice, letters)
        return letters + (self._send(seq, left) if left else [])

    def _open(self) -> NoticeStore:
        if self._store is None:
            self._store = NoticeStore(self._path)
        return self._store

    def _ready(self) -> Channel:
        if self._channel is None:
            self._channel = self._make()
        return self._channel

    def close(self) -> None:
        """Close connection and file."""
        if self._channel is not None:
            self._channel.close()
        if self._store is not None:
            self._store.close()


def make_channel(config: Config, route: str, suffix: str = "notify") -> Channel:
    """Return the channel of a route.

    Raises
    ------
    ConfigError
        If apprise is not installed or does not understand the address.
    """
    settings = config.notify.routes[route]
    if settings.mqtt_topic:
        client_id = f"{config.service.instance}-{suffix}-{route}"
        mqtt = dataclasses.replace(mqtt_settings(config), filters=(), share_group="", client_id=client_id)
        return MqttChannel(Publisher(mqtt), settings.mqtt_topic)
    return AppriseChannel(
        settings.url,
        zone_of(config.notify.time_zone),
        config.notify.page_url,
        as_json=settings.format == "json",
    )


def trial(route: str, at_ms: int) -> Notice:
    """Return a message that says that it is a trial."""
    finding: dict[str, Any] = dict.fromkeys(field for field in FindingChange.__struct_fields__)
    finding |= {
        "finding_id": "trial", "code": "trial", "scope": "site", "site": "trial", "severity": "info",
        "source": "trial", "state": "raised", "live": True, "planned": False, "raised_at": at_ms,
        "start": at_ms, "last": at_ms, "score": 0.0, "evidence": {},
        "advice": "nothing: this is a trial message, no finding",
    }  # fmt: skip
    for name in ("change", "changed_at", "shard", "order"):
        del finding[name]
    return notice_of(route, at_ms, [NoticeItem(finding_id="trial", state="raised", finding=finding)])


def _switched_off(data_dir: Path) -> None:
    """Begin anew when it is switched on again: what the outboxes drop meanwhile is not asked for then."""
    if not notices_path(data_dir).exists():
        return
    with NoticeStore(notices_path(data_dir)) as store:
        store.forget_routes()
    for path in (data_dir / "outbox").glob("*.cursors.db"):
        with OutboxCursors(path) as cursors:
            for stream in NotifySink.streams:
                cursors.set(CONSUMER, stream, 0)


class Notifying:
    """What the egress process needs to notify; empty where there are no routes.

    Attributes
    ----------
    sinks : dict of consumer to factory
        For the outboxes of the workers.
    routes : dict of outbox to factory
        The outboxes of the routes.

    Raises
    ------
    ConfigError
        If the address of a route cannot be used.
    """

    def __init__(self, config: Config) -> None:
        self.sinks: dict[str, Callable[[str], Sink]] = {}
        self.routes: dict[Path, Callable[[str], Sink]] = {}
        self._desk: NoticeDesk | None = None
        if not config.notify.running:
            _switched_off(Path(config.service.data_dir))
            return
        data_dir, names = Path(config.service.data_dir), list(config.notify.routes)
        for name in names:
            make_channel(config, name).close()  # a mistake is to be told now
        desk = self._desk = NoticeDesk(data_dir, config.notify.rules, names)
        self.sinks[CONSUMER] = lambda _: NotifySink(desk)
        for name in names:
            self.routes[route_outbox(data_dir, name)] = self._route(config, name, notices_path(data_dir))

    @staticmethod
    def _route(config: Config, name: str, store: Path) -> Callable[[str], Sink]:
        return lambda _: RouteSink(name, lambda: make_channel(config, name), store)

    def close(self) -> None:
        """Close the desk, after the threads."""
        if self._desk is not None:
            self._desk.close()
