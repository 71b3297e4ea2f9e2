"""Tells which stations the file server put off or refused: no campaign counts that as their failure."""

from __future__ import annotations

import logging
import threading
import time
import uuid
from collections.abc import Callable
from typing import Any, Final

import msgspec

from models.errors import RetryLater
from models.firmware_urls import Grant
from models.outputs import Publish
from models.topics import OPERATOR_SITE, ROOT

from .mqtt import Publisher
from .mqtt_settings import MqttSettings

_LOG = logging.getLogger("chargestream.firmware")

TOPIC: Final = f"{ROOT}/{OPERATOR_SITE}/firmware"
_BATCH_S: Final = 0.5
_MAX_WAITING: Final = 10_000
_JOIN_S: Final = 5.0
#: One station is told of as refused no oftener than this.
_REFUSED_S: Final = 60.0


class ShedTeller:
    """Publishes ``{action: shed, site, station, retry_after_s}``, once for each time that a station waits.

    And ``{action: withdrawn, site, station, campaign, image, reason}`` of an image that is given out no more.

    Parameters
    ----------
    settings : MqttSettings
    publisher : Publisher, optional
        Instead of one of its own.
    steady : callable
        A clock in seconds.
    batch_s : float
        Time between two batches.
    """

    def __init__(
        self,
        settings: MqttSettings,
        publisher: Publisher | None = None,
        steady: Callable[[], float] = time.monotonic,
        batch_s: float = _BATCH_S,
    ) -> None:
        self._publisher = publisher or Publisher(settings)
        self._steady, self._batch_s = steady, batch_s
        self._lock = threading.Lock()
        self._waiting: dict[tuple[str, ...], Publish] = {}
        self._told_until: dict[tuple[str, ...], float] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="firmware-shed", daemon=True)
        self.lost = 0

    def start(self) -> None:
        """Start publishing."""
        self._thread.start()

    def tell(self, grant: Grant, retry_after_s: int) -> None:
        """Note that a station was put off; never waits. Beyond 10,000 that wait, the newest is dropped."""
        self._note(
            (grant.site, grant.station), grant, retry_after_s, "shed", {"retry_after_s": retry_after_s}
        )

    def tell_withdrawn(self, grant: Grant, reason: str) -> None:
        """Note that a station was refused an image, and why; never waits, as `tell`."""
        key = (grant.site, grant.station, grant.campaign, grant.image_id)
        self._note(key, grant, _REFUSED_S, "withdrawn", {"image": grant.image_id, "reason": reason})

    def _note(
        self, key: tuple[str, ...], grant: Grant, quiet_s: float, action: str, more: dict[str, Any]
    ) -> None:
        now = self._steady()
        with self._lock:
            if self._told_until.get(key, 0.0) > now:
                return
            if len(self._waiting) >= _MAX_WAITING:
                self.lost += 1
                return
            if len(self._told_until) >= _MAX_WAITING:
                self._told_until = {k: until for k, until in self._told_until.items() if until > now}
            self._told_until[key] = now + quiet_s
            body = {
                "id": str(uuid.uuid4()),
                "action": action,
                "by": "firmware-server",
                "site": grant.site,
                "station": grant.station,
                "campaign": grant.campaign,
            }
            self._waiting[key] = Publish(topic=TOPIC, payload=msgspec.json.encode(body | more))

    def close(self) -> None:
        """Publish what waits, if the broker answers, and end."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(_JOIN_S)
        self._publisher.close()

    def _run(self) -> None:
        said = False
        while True:
            ending = self._stop.wait(self._batch_s)
            with self._lock:
                batch = dict(list(self._waiting.items())[:500])
            if batch:
                try:
                    refused = self._publisher.publish(list(batch.values()))
                    for refusal in refused[:1]:
                        _LOG.error("the broker refuses %s: %s", TOPIC, refusal.reason)
                    said = False
                    with self._lock:
                        for key in batch:
                            self._waiting.pop(key, None)
                except RetryLater as error:
                    if not said:
                        said = True
                        _LOG.warning("put-off downloads cannot be told: %s", error)
            if ending:
                return
