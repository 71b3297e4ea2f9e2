"""Simulated stations for the campaign drill: they obey, refuse, keep silent, fail, or never come back."""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from models.campaign_rows import CampaignAsk

OLD, NEW = "1.4.0", "2.0.0"
_S: Final = 1000
Tell = Callable[[int, str, dict[str, Any]], None]


@dataclass(slots=True)
class Station:
    """One station: `kind` decides what becomes of an update."""

    site: str
    name: str
    kind: str  # good, failing, bricked, silent
    ocpp16: bool
    fw: str = OLD
    boot: int = 1
    order: int = 0
    online: bool = True
    charging: bool = False
    updating: int = 0  # number of the request it works on
    asked: int = 0
    installs: int = 0
    unlucky: int = 0  # downloads that failed by chance
    while_charging: int = 0
    seen: set[str] = field(default_factory=set)


class World:
    """All stations, and what they will do, in the order of time.

    Parameters
    ----------
    stations : int
    rng : random.Random
    tell : callable
        Told (time in ms, kind, body) of everything a site's shard would pass on.
    """

    def __init__(self, stations: int, rng: random.Random, tell: Tell) -> None:
        self.rng = rng
        self.tell = tell
        self.now_ms = 0
        self._serial = 0
        self._events: list[tuple[int, int, Callable[..., None], tuple[Any, ...]]] = []
        kinds = ["failing"] * round(stations * 0.02)
        kinds += ["bricked"] * round(stations * 0.01) + ["silent"] * round(stations * 0.01)
        kinds += ["good"] * (stations - len(kinds))
        rng.shuffle(kinds)
        self.stations = {
            (f"site-{i % 40:02d}", f"cs-{i:05d}"): Station(
                f"site-{i % 40:02d}", f"cs-{i:05d}", kind, rng.random() < 0.3
            )
            for i, kind in enumerate(kinds)
        }
        self.sheds = self.doubles = self.told_busy = self.asks_while_charging = 0

    def at(self, delay_s: float, do: Callable[..., None], *about: Any) -> None:
        """Let `do` happen later."""
        self._serial += 1
        heapq.heappush(self._events, (self.now_ms + round(delay_s * _S), self._serial, do, about))

    def run(self, until_ms: int) -> None:
        """Let everything happen up to a time."""
        while self._events and self._events[0][0] <= until_ms:
            self.now_ms, _, do, about = heapq.heappop(self._events)
            do(*about)
        self.now_ms = until_ms

    # -- what stations do --------------------------------------------------------------------------

    def begin(self) -> None:
        """Every station is born, and cars come and go."""
        for station in self.stations.values():
            self.at(self.rng.random() * 60, self.birth, station)
            self.at(60 + self.rng.expovariate(1 / 14_400), self._car, station)

    def birth(self, station: Station) -> None:
        """A station connects and says what it runs."""
        station.online = True
        body = {"online": True, "vendor": "Volta", "model": "V2", "fw": station.fw, "boot": station.boot}
        self._say(station, "station", body)
        if self.rng.random() < 0.02:
            self.tell(self.now_ms, "station", self._form(station, body))  # delivered twice

    def _say(self, station: Station, kind: str, body: dict[str, Any]) -> None:
        station.order += 1
        self.tell(self.now_ms, kind, self._form(station, body))

    def _form(self, station: Station, body: dict[str, Any]) -> dict[str, Any]:
        where = {"site": station.site, "station": station.name, "order": station.order}
        return where | {"time_ms": self.now_ms} | body

    def _car(self, station: Station) -> None:
        if station.online:
            station.charging = not station.charging
            self._say(station, "charging", {"charging": station.charging})
        self.at(self.rng.expovariate(1 / (5400 if station.charging else 21_600)), self._car, station)

    # -- updates -----------------------------------------------------------------------------------

    def ask(self, ask: CampaignAsk) -> None:
        """A request leaves for its station, as the command book sends it: once, however often it is told."""
        station = self.stations[ask.site, ask.station]
        if ask.cause in station.seen:
            self.doubles += 1
            return
        station.seen.add(ask.cause)
        self.asks_while_charging += station.charging
        self.at(0.5 + 2 * self.rng.random(), self._arrive, station, ask)

    def _arrive(self, station: Station, ask: CampaignAsk) -> None:
        if not station.online:
            self._result(station, ask, "expired", "")
            return
        if station.kind == "silent":
            self.at(300, self._result, station, ask, "expired", "")
            return
        if station.charging:  # a car came in between
            self.told_busy += 1
            info = {"statusInfo": {"reasonCode": "TxInProgress"}}
            self._result(station, ask, "rejected", "Rejected", info)
            return
        station.asked += 1
        station.updating += 1
        self._result(station, ask, "accepted", "Accepted")
        if self.rng.random() < 0.03:
            self._result(station, ask, "accepted", "Accepted")
        request = None if station.ocpp16 else ask.body["requestId"]
        self.at(5, self._download, station, request, station.updating)

    def _result(
        self,
        station: Station,
        ask: CampaignAsk,
        state: str,
        status: str,
        answer: dict[str, Any] | None = None,
    ) -> None:
        said: dict[str, Any] = {"cause": ask.cause, "state": state, "status": status, "answer": answer or {}}
        said["sent_ms"] = ask.at_ms if station.online else None
        self._say(station, "result", said)

    def _status(self, station: Station, request: int | None, status: str) -> None:
        if self.rng.random() < 0.02:
            return  # lost
        body = {"request_id": request, "status": status}
        self._say(station, "fw", body)
        if self.rng.random() < 0.02:
            self._say(station, "fw", body)

    def _download(self, station: Station, request: int | None, number: int) -> None:
        self._status(station, request, "Downloading")
        if self.rng.random() < 0.03:
            self.sheds += 1
            first, then = ("shed", "fw") if self.rng.random() < 0.5 else ("fw", "shed")
            told: dict[str, dict[str, Any]] = {
                "shed": {"retry_after_s": 600},
                "fw": {"request_id": request, "status": "DownloadFailed"},
            }
            self._say(station, first, told[first])
            self._say(station, then, told[then])
        elif self.rng.random() < 0.02:
            station.unlucky += 1
            self._status(station, request, "DownloadFailed")
        else:
            self.at(60 + 120 * self.rng.random(), self._downloaded, station, request, number)

    def _downloaded(self, station: Station, request: int | None, number: int) -> None:
        self._status(station, request, "Downloaded")
        if not station.ocpp16:
            self._status(station, request, "SignatureVerified")
        self._install(station, request, number)

    def _install(self, station: Station, request: int | None, number: int) -> None:
        if station.updating != number:
            return  # a newer request came
        if station.charging:
            self.at(300, self._install, station, request, number)  # when the car has gone
            return
        self._status(station, request, "Installing")
        if station.kind == "failing":
            self.at(90, self._status, station, request, "InstallationFailed")
            return
        station.installs += 1
        station.while_charging += station.charging
        station.online = False
        self._say(station, "station", {"online": False})
        if station.kind == "good":
            self.at(120 + 60 * self.rng.random(), self._back, station, request)

    def _back(self, station: Station, request: int | None) -> None:
        station.fw, station.boot = NEW, station.boot + 1
        if self.rng.random() < 0.5:
            self.birth(station)
            self._status(station, request, "Installed")
        else:
            self._status(station, request, "Installed")
            self.birth(station)
