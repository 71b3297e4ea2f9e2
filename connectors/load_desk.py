"""The way in for load management: an operator's wish goes to the broker, and from there into the journal."""

from __future__ import annotations

import threading
from typing import Any, Final

import msgspec

from models.errors import DecodeError, RetryLater
from models.load_rows import LoadRequest
from models.outputs import Publish
from models.topics import OPERATOR_SITE, ROOT

from .mqtt import Publisher
from .mqtt_settings import MqttSettings

TOPIC: Final = f"{ROOT}/{OPERATOR_SITE}/load"


def check_wish(body: dict[str, Any]) -> LoadRequest:
    """Return a wish, complete.

    Raises
    ------
    DecodeError
        If it is not one (`models.load_rows.LoadRequest`), or wishes for nothing.
    """
    try:
        wish = msgspec.convert(body, LoadRequest)
    except msgspec.ValidationError as error:
        raise DecodeError("load", str(error)) from error
    wanted = (wish.limit_a, wish.departure_ms, wish.energy_wh, wish.priority)
    if all(value is None for value in wanted):
        raise DecodeError("load", "expected limit_a, or departure_ms, energy_wh or priority of a station")
    if not wish.by:
        raise DecodeError("load", "by: expected who wants it")
    if not wish.station and wish.limit_a is None:
        raise DecodeError("load", "station: expected one, as only limit_a is of a whole site")
    return wish


class LoadDesk:
    """Publishes wishes. Thread-safe; connects when it is first needed."""

    def __init__(self, settings: MqttSettings) -> None:
        self._publisher = Publisher(settings)
        self._lock = threading.Lock()

    def ask(self, body: dict[str, Any]) -> LoadRequest:
        """Publish one wish and return it; its effect shows in the ledger.

        Raises
        ------
        DecodeError
            If the wish is not complete; nothing is sent then.
        RetryLater
            If the broker did not take it.
        """
        wish = check_wish(body)
        with self._lock:
            refused = self._publisher.publish([Publish(topic=TOPIC, payload=msgspec.json.encode(wish))])
        if refused:
            raise RetryLater(f"the broker did not take the wish: {refused[0].reason}")
        return wish

    def close(self) -> None:
        """Disconnect."""
        with self._lock:
            self._publisher.close()
