"""The way in for people: what they do about findings goes to the broker, and from there into the journal."""

from __future__ import annotations

import threading
import uuid
from typing import Any

from models.errors import DecodeError, RetryLater
from models.finding_actions import TOPIC, ActionRequest, encode_action, read_action
from models.outputs import Publish

from .ledger_reader import LedgerReader
from .mqtt import Publisher
from .mqtt_settings import MqttSettings


class UnknownFinding(DecodeError):
    """No finding of the ledger has this id, or more than one begins with it."""


class OperatorDesk:
    """Publishes what people do. Thread-safe; connects when it is first needed.

    Parameters
    ----------
    settings : MqttSettings
    ledger : LedgerReader
        Where findings are looked up, for their full id and site; closed by its owner.
    """

    def __init__(self, settings: MqttSettings, ledger: LedgerReader) -> None:
        self._ledger = ledger
        self._publisher = Publisher(settings)
        self._lock = threading.Lock()

    def act(self, finding_id: str, body: dict[str, Any]) -> ActionRequest:
        """Publish one action on a finding and return it; it shows in the ledger a moment later.

        Parameters
        ----------
        finding_id : str
            Whole, or its first characters.
        body : dict
            ``action``, ``by``, and what the action needs (`models.finding_actions`).

        Raises
        ------
        UnknownFinding
            If the ledger has no such finding.
        DecodeError
            If the action is not complete.
        RetryLater
            If the broker did not take it.
        """
        found = self._ledger.finding(finding_id)
        if found is None:
            raise UnknownFinding("finding", f"the ledger has no finding {finding_id!r}, or several begin so")
        known = {"finding_id": found["finding_id"], "site": found["site"], "id": str(uuid.uuid4())}
        request = read_action({name: value for name, value in body.items() if value is not None} | known)
        with self._lock:
            refused = self._publisher.publish([Publish(topic=TOPIC, payload=encode_action(request))])
        if refused:
            raise RetryLater(f"the broker did not take the action: {refused[0].reason}")
        return request

    def close(self) -> None:
        """Disconnect."""
        with self._lock:
            self._publisher.close()
