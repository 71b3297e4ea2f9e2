"""The way in for campaigns: what people ask goes to the broker, and from there into the journal."""

from __future__ import annotations

import threading
from typing import Any, Final

import msgspec

from models.campaign_requests import check_request
from models.errors import RetryLater
from models.outputs import Publish
from models.topics import OPERATOR_SITE, ROOT

from .mqtt import Publisher
from .mqtt_settings import MqttSettings

TOPIC: Final = f"{ROOT}/{OPERATOR_SITE}/campaign"


class CampaignDesk:
    """Publishes requests about campaigns. Thread-safe; connects when it is first needed."""

    def __init__(self, settings: MqttSettings) -> None:
        self._publisher = Publisher(settings)
        self._lock = threading.Lock()

    def ask(self, body: dict[str, Any]) -> dict[str, Any]:
        """Publish one request (`models.campaign_requests`) and return it; its outcome shows in the ledger.

        Raises
        ------
        DecodeError
            If the request is not complete; nothing is sent then.
        RetryLater
            If the broker did not take it.
        """
        check_request(body)
        with self._lock:
            refused = self._publisher.publish([Publish(topic=TOPIC, payload=msgspec.json.encode(body))])
        if refused:
            raise RetryLater(f"the broker did not take the request: {refused[0].reason}")
        return body

    def close(self) -> None:
        """Disconnect."""
        with self._lock:
            self._publisher.close()
