"""The way in for people: what they do about findings goes to the broker, and from there into the journal."""

from __future__ import annotations

import threading
import time
import uuid
from typing import Any

import msgspec

from models.command_check import check_command
from models.command_request import CANCEL_KIND, CANCEL_TOPIC, CommandRequest, read_request
from models.command_request import KIND as COMMAND
from models.command_request import TOPIC as COMMAND_TOPIC
from models.errors import DecodeError, RetryLater
from models.finding_actions import TOPIC, ActionRequest, encode_action, read_action
from models.inspections import TOPIC as WORK_TOPIC
from models.inspections import InspectionRequest, encode_inspection, read_inspection
from models.load import displaces
from models.outputs import Publish
from models.reactions import TOPIC as REACTIONS_TOPIC
from models.units import NS_PER_MS

from .ledger_reader import LedgerReader
from .mqtt import Publisher
from .mqtt_settings import MqttSettings

#: A site with no minute of load management in this time is not managed any longer.
_MANAGED_MS = 600_000


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
        if request.action == "snooze" and (request.until or 0) * NS_PER_MS <= time.time_ns():
            raise DecodeError("until", f"the snooze would end at {request.until}: expected epoch ms ahead")
        with self._lock:
            refused = self._publisher.publish([Publish(topic=TOPIC, payload=encode_action(request))])
        if refused:
            raise RetryLater(f"the broker did not take the action: {refused[0].reason}")
        return request

    def record(self, body: dict[str, Any]) -> InspectionRequest:
        """Publish work done at a station and return it; it shows in the ledger a moment later.

        Parameters
        ----------
        body : dict
            As `models.inspections` has it.

        Raises
        ------
        DecodeError
            If it is not complete.
        RetryLater
            If the broker did not take it.
        """
        given = {name: value for name, value in body.items() if value is not None}
        request = read_inspection(given | {"id": str(uuid.uuid4())})
        self._send(WORK_TOPIC, encode_inspection(request))
        return request

    def command(self, body: dict[str, Any]) -> CommandRequest:
        """Publish a request for a command and return it; it shows in the ledger a moment later.

        Parameters
        ----------
        body : dict
            As in `models.command_request.CommandRequest`, without ``id``.

        Raises
        ------
        DecodeError
            If the request is not complete, its body is not what OCPP 2.0.1 says, or it would take the place
            of profiles of load management.
        RetryLater
            If the broker did not take it.
        """
        request = read_request(COMMAND, body | {"id": str(uuid.uuid4()), "cause": ""})
        assert isinstance(request, CommandRequest)
        check_command(request.command, request.body)
        self._refuse_managed(request)
        self._send(COMMAND_TOPIC, msgspec.json.encode(request))
        return request

    def _refuse_managed(self, request: CommandRequest) -> None:
        """Refuse what would replace or clear the limits of a site that is managed now."""
        if not displaces(request.command, request.body):
            return
        minutes = self._ledger.load_now(request.site)
        if minutes and time.time() * 1000 - minutes[0]["start_ms"] <= _MANAGED_MS:
            site, station = request.site, request.station
            raise DecodeError(
                "command",
                f"{request.command}: {site} is under load management, whose profiles this would replace; "
                f"limit an EVSE by `chargestream load limit {site} AMPERE --station {station} --evse N`, or "
                "the station as a whole by the word limit without an EVSE",
            )

    def take_back(self, cmd_id: str, site: str, by: str) -> None:
        """Ask for a command to be taken back, which only one that was not sent yet can be.

        Raises
        ------
        DecodeError
            If a field is missing.
        RetryLater
            If the broker did not take it.
        """
        body = {"id": str(uuid.uuid4()), "site": site, "cmd_id": cmd_id, "by": by}
        self._send(CANCEL_TOPIC, msgspec.json.encode(read_request(CANCEL_KIND, body)))

    def breaker(self, action: str, by: str) -> None:
        """Ask to open (``trip``) or close (``reset``) the breaker of automatic reactions.

        Raises
        ------
        RetryLater
            If the broker did not take it.
        """
        self._send(REACTIONS_TOPIC, msgspec.json.encode({"action": action, "by": by}))

    def _send(self, topic: str, payload: bytes) -> None:
        with self._lock:
            refused = self._publisher.publish([Publish(topic=topic, payload=payload)])
        if refused:
            raise RetryLater(f"the broker did not take it: {refused[0].reason}")

    def close(self) -> None:
        """Disconnect."""
        with self._lock:
            self._publisher.close()
