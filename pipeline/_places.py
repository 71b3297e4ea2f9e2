"""Where stations are and how they are spoken to, for the commands of one shard."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from models import plugins
from models.command_check import CommandRefused
from models.command_types import Outgoing, Place
from models.outputs import Publish
from models.records import Birth
from models.shard import Heard, ShardBatch
from models.whereabouts import Speech, Whereabouts

from .wayback import PACKAGE, Way

_NATIVE = "native"


class StationPlaces:
    """Finds stations and wraps commands in the dialect that each was heard in.

    A node whose birth was not heard yet is taken to speak the only dialect there is, or else the native one.

    Parameters
    ----------
    where : Whereabouts
    dialects : dict
        Dialect name -> its options.
    forbids : callable
        Returns why a command must not leave now, "" if it may.
    """

    def __init__(
        self,
        where: Whereabouts,
        dialects: dict[str, dict[str, Any]],
        forbids: Callable[[Outgoing], str] = lambda _command: "",
    ) -> None:
        self._where, self._forbids = where, forbids
        self._options = dialects
        self._default = next(iter(dialects)) if len(dialects) == 1 else _NATIVE
        self._ways: dict[str, Way | None] = {}
        self._first_read: list[tuple[int, int]] = []  # (order, station) of stations first heard in this batch
        self._heard: dict[int, Heard] = {}

    def use(self, batch: ShardBatch) -> None:
        """Go on with a batch."""
        self._heard = {heard.order: heard for heard in batch.heard}
        rows = batch.rows
        self._first_read = []
        if len(rows) == 0:
            return
        start = np.flatnonzero(np.append(True, rows.evse[1:] != rows.evse[:-1]))  # of each EVSE's run of rows
        station = batch.devices.evse_station[rows.evse[start]]
        new = self._where.unheard(station)
        if new.any():
            first: dict[int, int] = {}
            order = np.minimum.reduceat(rows.order, start)
            for row, at in zip(station[new].tolist(), order[new].tolist(), strict=True):
                first[row] = min(at, first.get(row, at))
            self._first_read = sorted((at, row) for row, at in first.items())

    def advance(self, order: int) -> None:
        """Note whose readings came up to `order`."""
        while self._first_read and self._first_read[0][0] <= order:
            self._where.hear(self._first_read.pop(0)[1])

    def speech_of(self, record: Birth) -> Speech | None:
        """Return how a node was heard in its birth; None for the native schema."""
        heard = self._heard.get(record.at.order)
        return None if heard is None else Speech(heard.dialect, heard.topic, record.proto)

    def find(self, site: str, station: str) -> Place | None:
        """Return where a station is, None if nothing was heard of it up to now."""
        where = self._where
        devices = where.devices
        row, node = devices.find_station(site, station), devices.find_node(site, station)
        if row >= 0 and where.heard(row):
            node, online = devices.station_node[row], where.online(row)
        elif node >= 0 and where.born(node):
            online = where.node_online(node)
        else:
            return None
        speech = where.speech(node)
        way = self._way(speech.dialect if speech else self._default)
        return Place(devices.nodes[node], online, way is not None and way.honours)

    def publication(self, command: Outgoing) -> Publish:
        """Return the message that carries `command`; raises CommandRefused when it cannot leave now."""
        if why := self._forbids(command):
            raise CommandRefused(why)
        devices = self._where.devices
        row = devices.find_station(command.site, command.station)
        node = devices.station_node[row] if row >= 0 else devices.find_node(command.site, command.station)
        speech = self._where.speech(node)
        dialect = speech.dialect if speech else self._default
        way = self._way(dialect)
        if way is None:
            raise CommandRefused(
                f"{command.site}/{command.station} speaks the dialect {dialect}, which has no way back; "
                f"there are {', '.join(plugins.names(PACKAGE))}"
            )
        return way.publication(command, devices.nodes[node], speech)

    def _way(self, dialect: str) -> Way | None:
        if dialect not in self._ways:
            known = dialect in plugins.names(PACKAGE)
            module = plugins.load(PACKAGE, dialect) if known else None
            self._ways[dialect] = module.build(self._options.get(dialect, {})) if module else None
        return self._ways[dialect]
