"""A campaign book fed by hand: a small fleet, short words for what stations do."""

from __future__ import annotations

from typing import Any

import numpy as np

from models.campaign_rows import CampaignAsk, CampaignProgress, CampaignRow, CampaignStationRow
from models.campaigns import STEP_MS, CampaignBook

T0 = 1_795_478_400_000  # 2026-11-24T00:00Z, a Tuesday
OLD, NEW = "1.4.0", "2.0.0"
MINUTE, HOUR = 60_000, 3_600_000


def image(version: str, **more: Any) -> dict[str, Any]:
    """Return an image of one vendor and model."""
    known = {
        "image_id": f"volta_v2_{version}",
        "vendor": "Volta",
        "model": "V2",
        "version": version,
        "size_bytes": 1,
        "sha256": "0" * 64,
        "signing_certificate": "pem",
        "signature": "c2ln",
        "algorithm": "ed25519",
    }
    return known | more


def plan(**more: Any) -> dict[str, Any]:
    """Return the body of a create request: one wave, no gate, unless said."""
    known = {
        "action": "create",
        "id": "c1",
        "by": "ann",
        "image": image(NEW),
        "location": "https://fw.example/{site}/{station}",
        "gate": None,
        "min_sample": 4,
    }
    return known | more


class Bench:
    """A book, its clock, and what it said; `restarts` makes it go through a snapshot before every call."""

    def __init__(self, stations: int = 10, restarts: bool = False, **planned: Any) -> None:
        self.book = CampaignBook()
        self.restarts = restarts
        self.now = T0
        self.order = 0
        self.campaigns: list[CampaignRow] = []
        self.asks: list[CampaignAsk] = []
        self.progress: list[CampaignProgress] = []
        self.station_rows: dict[tuple[str, str], CampaignStationRow] = {}
        self.log: list[CampaignStationRow] = []
        self.book.advance(self.now)
        for number in range(stations):
            self.birth(number)
        if planned or stations:
            self.started(**planned)

    def started(self, **planned: Any) -> Bench:
        """Make, approve and start the campaign."""
        self.operator(plan(**planned))
        self.operator({"id": "c1", "action": "approve", "by": "bob"})
        self.operator({"id": "c1", "action": "start", "by": "ann"})
        return self

    def _fed(self) -> None:
        out = self.book.drain()
        self.campaigns += out.campaigns
        self.asks += out.asks
        self.progress += out.progress
        self.log += out.stations
        for row in out.stations:
            self.station_rows[row.site, row.station] = row
        if self.restarts:
            self.book = CampaignBook(self.book.snapshot())

    def operator(self, body: dict[str, Any]) -> None:
        """Let a person ask for something."""
        self.book.operator(body, self.now)
        self._fed()

    def seen(self, kind: str, number: int, **body: Any) -> None:
        """Tell something of station `number`."""
        self.order += 1
        where = {"site": f"s{number % 2}", "station": f"cs{number}", "order": self.order}
        self.book.seen(kind, where | {"time_ms": self.now} | body, self.now)
        self._fed()

    def birth(self, number: int, fw: str = OLD, **more: Any) -> None:
        """Let a station say what it runs."""
        known = {"online": True, "vendor": "Volta", "model": "V2", "fw": fw, "boot": 1}
        self.seen("station", number, **(known | more))

    def status(self, number: int, status: str, request_id: int | None = None, **more: Any) -> None:
        """Let a station tell how its update goes; the requestId of its last request unless given."""
        row = self.row(number)
        self.seen("fw", number, status=status, request_id=request_id or row.request_id, **more)

    def result(self, number: int, state: str = "accepted", status: str = "Accepted", **more: Any) -> None:
        """End the last request to a station."""
        cause = f"campaign/c1/{self.row(number).attempt}"
        self.seen(
            "result", number, **({"cause": cause, "state": state, "status": status, "sent_ms": 1} | more)
        )

    def update(self, number: int) -> None:
        """Let everything go well at a station."""
        self.result(number)
        for status in ("Downloading", "Downloaded", "Installing"):
            self.status(number, status)
        self.birth(number, NEW, boot=2)
        self.status(number, "Installed")

    def go(self, ms: int = STEP_MS) -> None:
        """Let time pass."""
        self.now += ms
        self.book.advance(self.now)
        self._fed()

    def row(self, number: int) -> CampaignStationRow:
        """Return what is known last of a station."""
        return self.station_rows[f"s{number % 2}", f"cs{number}"]

    def states(self) -> dict[str, int]:
        """Return how many stations are in each state."""
        return self.book.runs["c1"].members.counts()

    @property
    def state(self) -> str:
        """Where the campaign stands."""
        return self.book.runs["c1"].state.value

    def asked(self) -> list[int]:
        """Return the numbers of the stations asked so far, in order."""
        return [int(ask.station[2:]) for ask in self.asks]

    def hour(self, hour: int, findings: Any, stations: int) -> None:
        """Hand over an hour of digests: findings per station, two starts, one kWh."""
        values = np.zeros((stations, 4))
        values[:, 0], values[:, 3] = findings, 1000.0
        self.book.digests(hour, np.arange(stations), values, np.full(stations, 2.0))
