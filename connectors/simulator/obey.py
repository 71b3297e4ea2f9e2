"""A simulated station that takes commands: no broker, no clock, only messages in and messages out.

`Obedient` is one station. What it does with a command shows in its state (`available`, `limits`, `running`,
`fw`, `boot`), what it says comes out of `step` as `Said`. A station that honours command ids does each once
and answers a repeat with the same words; what has expired it refuses.
"""

from __future__ import annotations

import heapq
import random
from typing import Any, Final, NamedTuple

from .manners import Manners
from .profiles import Profiles

_SLOW_S: Final = (30.0, 120.0)
_ANSWER_MS: Final = (50, 800)
#: Seconds that a boot, a download and an installation take.
_BOOT_S: Final = (5.0, 40.0)
_DOWNLOAD_S: Final = (20.0, 120.0)
_INSTALL_S: Final = (20.0, 90.0)
_REMEMBERED: Final = 200


class Said(NamedTuple):
    """Something a station says: `kind` is the topic's last level (``cmdres``, ``fw``, ``conn``, ``tx``)."""

    at_ms: int
    kind: str
    body: dict[str, Any]


class Obedient:
    """One station.

    Parameters
    ----------
    station : str
    fw : str
        Version it runs.
    manners : Manners
        Of this station: shares of 0 or 1.
    rng : Random
    boot : int
        Which boot it is in.

    Attributes
    ----------
    done : list of (command id, action)
        What it carried out, in order: with honoured ids none occurs twice.
    """

    def __init__(self, station: str, fw: str, manners: Manners, rng: random.Random, boot: int = 1) -> None:
        self.station, self.fw, self.manners, self.rng, self.boot = station, fw, manners, rng, boot
        self.online, self.bricked = True, False
        self.available = True
        self.profiles: dict[int, Profiles] = {}  # of each EVSE; 0: of the station
        self.running: str | None = None
        self.done: list[tuple[str, str]] = []
        self._answers: dict[str, dict[str, Any]] = {}
        self._expires_ms: dict[str, int] = {}  # of what was carried out
        self._out: list[tuple[int, int, Said]] = []
        self._count = 0
        self._resetting = False
        self._update: int | None = None  # requestId of the update under way
        self._image = ""

    # -- in ----------------------------------------------------------------------------------------

    def receive(self, command: dict[str, Any], now_ms: int) -> None:
        """Take a ``dn/cmd`` body; what comes of it is said by `step`."""
        if not self.online or self.manners.ignore:
            return
        cmd_id = str(command["cmdId"])
        known = None if self.manners.forgetful else self._answers.get(cmd_id)
        if known is not None:
            self._answer(cmd_id, known, now_ms)
        elif self.clock_ms(now_ms) >= int(command["expires"]) and not self.manners.forgetful:
            self._answer(cmd_id, {"status": "Expired"}, now_ms)
        elif self.manners.reject:
            self._answer(cmd_id, {"status": "Rejected", "statusInfo": {"reasonCode": "NotEnabled"}}, now_ms)
        else:
            answer = self._carry_out(str(command["action"]), command["payload"], now_ms)
            self.done.append((cmd_id, str(command["action"])))
            self._answers[cmd_id], self._expires_ms[cmd_id] = answer, int(command["expires"])
            self._forget(now_ms)
            self._answer(cmd_id, answer, now_ms)

    def clock_ms(self, now_ms: int) -> int:
        """Return what the station's own clock says, by which it judges whether a command has expired."""
        return now_ms

    def _forget(self, now_ms: int) -> None:
        """Forget old commands, but none that could still be repeated in time: it would be done twice."""
        for cmd_id in list(self._answers)[: max(0, len(self._answers) - _REMEMBERED)]:
            if self.clock_ms(now_ms) >= self._expires_ms[cmd_id]:
                del self._answers[cmd_id], self._expires_ms[cmd_id]

    def _answer(self, cmd_id: str, answer: dict[str, Any], now_ms: int) -> None:
        rng = self.rng
        wait_ms = rng.uniform(*_SLOW_S) * 1000 if self.manners.slow else rng.uniform(*_ANSWER_MS)
        body = {"cmdId": cmd_id, "st": self.station} | answer
        for time in range(2 if self.manners.twice else 1):
            self._say(now_ms + int(wait_ms) + 900 * time, "cmdres", body)

    def _carry_out(self, action: str, body: dict[str, Any], now_ms: int) -> dict[str, Any]:
        accepted = {"status": "Accepted"}
        match action:
            case "Reset":
                if body["type"] == "OnIdle" and self.running:
                    self._resetting = True
                    return {"status": "Scheduled"}
                self._reboot(now_ms + 1500)
            case "UnlockConnector":
                return {"status": "OngoingAuthorizedTransaction" if self.running else "Unlocked"}
            case "ChangeAvailability":
                self.available = body["operationalStatus"] == "Operative"
                return {"status": "Scheduled"} if self.running and not self.available else accepted
            case "RequestStartTransaction":
                if self.running or not self.available:
                    return {"status": "Rejected", "statusInfo": {"reasonCode": "TxInProgress"}}
                self.start(f"{self.station}-{self.boot}-{len(self.done)}", now_ms)
            case "RequestStopTransaction":
                if self.running != body["transactionId"]:
                    return {"status": "Rejected", "statusInfo": {"reasonCode": "TxNotFound"}}
                self.stop(now_ms)
            case "SetChargingProfile":
                return self._take_profile(body, now_ms)
            case "ClearChargingProfile":
                return self._clear_profiles(body)
            case "UpdateFirmware":
                return self._take_update(body, now_ms)
        return accepted

    def answer_to(self, cmd_id: str) -> str | None:
        """Return the word with which it answered a command that it carried out."""
        answer = self._answers.get(cmd_id)
        return None if answer is None else str(answer["status"])

    # -- charging ----------------------------------------------------------------------------------

    def _take_profile(self, body: dict[str, Any], now_ms: int) -> dict[str, Any]:
        evse = int(body.get("evseId", 0))
        running = self.transaction(evse)
        if self.manners.ignore_limits:
            return {"status": "Accepted"}
        kept = self.profiles.setdefault(evse, Profiles())
        if kept.set(body["chargingProfile"], now_ms, running):
            return {"status": "Accepted"}
        return {"status": "Rejected", "statusInfo": {"reasonCode": "TxNotFound"}}

    def _clear_profiles(self, body: dict[str, Any]) -> dict[str, Any]:
        number, wanted = body.get("chargingProfileId"), body.get("chargingProfileCriteria") or {}
        evse = wanted.get("evseId")
        which = [kept for at, kept in self.profiles.items() if evse in (None, at)]
        gone = [kept.clear(number, wanted.get("chargingProfilePurpose")) for kept in which]
        return {"status": "Accepted" if any(gone) else "Unknown"}

    def transaction(self, evse: int) -> str | None:
        """Return the transaction that runs at an EVSE; 0: at any."""
        return self.running

    def limit_a(self, now_ms: int, evse: int = 1) -> float | None:
        """Return what profiles allow at a moment, A per phase; None: no limit."""
        running = self.transaction(evse)
        both = (self.profiles[at] for at in {0, evse} & self.profiles.keys())
        limits = [amps for amps in (one.limit_a(now_ms, running) for one in both) if amps is not None]
        return min(limits) if limits else None

    def start(self, tx_id: str, now_ms: int) -> None:
        """A car begins to charge."""
        self.running = tx_id
        self._tx(now_ms, tx_id, "Started")

    def stop(self, now_ms: int) -> None:
        """The car has done; what waited for that happens."""
        if self.running is None:
            return
        self._tx(now_ms, self.running, "Ended")
        self.running = None
        self.idle(now_ms)

    def _tx(self, now_ms: int, tx_id: str, event: str) -> None:
        item = {"st": self.station, "evse": 1, "t": now_ms, "txId": tx_id, "eventType": event}
        self._say(now_ms, "tx", {"items": [item | {"chargingState": "Charging"}]})

    def idle(self, now_ms: int) -> None:
        """Do what waited for the car to have done, if it has."""
        if self._resetting and not self.running:
            self._resetting = False
            self._reboot(now_ms + 1500)

    # -- firmware ----------------------------------------------------------------------------------

    def _take_update(self, body: dict[str, Any], now_ms: int) -> dict[str, Any]:
        status = "Accepted" if self._update is None else "AcceptedCanceled"
        self._update = request = int(body["requestId"])
        self._image = str(body["firmware"]["location"]).rsplit("/", 1)[-1]
        at = self._progress(request, now_ms + 1000, "Downloading")
        at += int(self.rng.uniform(*_DOWNLOAD_S) * 1000)
        if self.manners.power_loss:
            at = self._reboot(at) + 1000
            at = self._progress(request, at, "Downloading") + int(self.rng.uniform(*_DOWNLOAD_S) * 1000)
        at = self._progress(request, at, "Downloaded")
        at = self._progress(request, at + 500, "SignatureVerified")
        at = self._progress(request, at + 500, "Installing") + int(self.rng.uniform(*_INSTALL_S) * 1000)
        if self.manners.brick:
            self._say(at, "gone", {})
            return {"status": status}
        if self.manners.reboot_mid_install:
            at = self._reboot(at) + int(self.rng.uniform(*_INSTALL_S) * 1000)
        at = self._progress(request, at, "InstallRebooting")
        version = None if self.manners.old_version else version_of(self._image)
        at = self._reboot(at, version) + 500
        self._progress(request, at, "InstallationFailed" if self.manners.old_version else "Installed")
        return {"status": status}

    def _progress(self, request: int, at_ms: int, status: str) -> int:
        self._say(at_ms, "fw", {"st": self.station, "requestId": request, "status": status})
        return at_ms

    def _reboot(self, at_ms: int, version: str | None = None) -> int:
        """Go away at a time and come back with the next boot; return when."""
        back_ms = at_ms + int(self.rng.uniform(*_BOOT_S) * 1000)
        self._say(at_ms, "away", {})
        self._say(back_ms, "back", {} if version is None else {"fw": version})
        return back_ms

    # -- out ---------------------------------------------------------------------------------------

    def _say(self, at_ms: int, kind: str, body: dict[str, Any]) -> None:
        self._count += 1
        heapq.heappush(self._out, (at_ms, self._count, Said(at_ms, kind, body)))

    def next_ms(self) -> int | None:
        """Return when it says something next."""
        return self._out[0][0] if self._out else None

    def step(self, now_ms: int) -> list[Said]:
        """Return what it says up to a time, in order; while it is away it says nothing."""
        said: list[Said] = []
        while self._out and self._out[0][0] <= now_ms:
            one = heapq.heappop(self._out)[2]
            if one.kind == "gone":
                self.online, self.bricked = False, True
                self._out.clear()
                said.append(self._conn(one.at_ms))
            elif one.kind == "away" and self.online:
                self.online = False
                said.append(self._conn(one.at_ms))
            elif one.kind == "back":
                self.online, self.running = True, None
                self.boot += 1
                self.fw = one.body.get("fw", self.fw)
                said.append(self._conn(one.at_ms))
            elif self.online and one.kind not in ("away", "back"):
                if one.kind == "fw" and one.body["requestId"] != self._update:
                    continue  # a newer request took its place
                if one.kind == "fw" and one.body["status"] in ("Installed", "InstallationFailed"):
                    self._update = None
                said.append(one)
        return said

    def _conn(self, at_ms: int) -> Said:
        body: dict[str, Any] = {"online": self.online, "boot": self.boot, "cid": 1}
        if self.online:
            body |= {"fw": self.fw, "vendor": "Simulated", "model": "Obedient", "serial": self.station}
        return Said(at_ms, "conn", body)

    def birth(self, now_ms: int) -> Said:
        """Return what it says when it comes online first."""
        return self._conn(now_ms)


def version_of(image: str) -> str:
    """Return the version in an image's name: ``fw-2.1.0.bin`` is 2.1.0; a name without one is the version."""
    name = image.split("?", 1)[0]
    name = name.removesuffix(".bin")
    return name.rsplit("-", 1)[-1]
