"""The way back in each dialect: what leaves, what is refused and why, and how answers come in."""

from __future__ import annotations

import json
from typing import Any

import pytest

from models.command_check import COMMANDS, CommandRefused, check_command, check_schema
from models.command_types import Outgoing
from models.commands16 import to_16
from models.frame import Frame
from models.topics import Route
from models.whereabouts import Speech
from pipeline.control import ControlConfig, ControlStage
from pipeline.order import OrderConfig, OrderStage
from pipeline.wayback import ocpp_j

T0 = 1_780_000_000_000
CMD = "7fe7b2af-a2f9-55d4-8c5b-131809434619"

PROFILE = {
    "id": 7,
    "stackLevel": 1,
    "chargingProfilePurpose": "TxDefaultProfile",
    "chargingProfileKind": "Absolute",
    "chargingSchedule": [
        {
            "id": 1,
            "duration": 900,
            "startSchedule": "2026-05-29T00:00:00Z",
            "chargingRateUnit": "A",
            "chargingSchedulePeriod": [{"startPeriod": 0, "limit": 21.47, "numberPhases": 3}],
        }
    ],
}
FIRMWARE = {"location": "https://x.example/f.bin", "retrieveDateTime": "2026-05-29T00:00:00Z"}
LOG = {"remoteLocation": "https://x.example/logs"}
VARIABLE = {"component": {"name": "OCPPCommCtrlr"}, "variable": {"name": "HeartbeatInterval"}}
MONITOR = {**VARIABLE, "value": 80.0, "type": "UpperThreshold", "severity": 3}

#: command -> (a body that is right, the 1.6 action and request that say the same, or words of its refusal)
BODIES: dict[str, tuple[dict[str, Any], tuple[str, dict[str, Any]] | str]] = {
    "Reset": ({"type": "OnIdle"}, ("Reset", {"type": "Soft"})),
    "UnlockConnector": ({"evseId": 2, "connectorId": 1}, ("UnlockConnector", {"connectorId": 2})),
    "ChangeAvailability": (
        {"operationalStatus": "Inoperative", "evse": {"id": 1}},
        ("ChangeAvailability", {"connectorId": 1, "type": "Inoperative"}),
    ),
    "RequestStartTransaction": (
        {"idToken": {"idToken": "ABC", "type": "Central"}, "remoteStartId": 1, "evseId": 1},
        ("RemoteStartTransaction", {"idTag": "ABC", "connectorId": 1}),
    ),
    "RequestStopTransaction": ({"transactionId": "77"}, ("RemoteStopTransaction", {"transactionId": 77})),
    "SetChargingProfile": (
        {"evseId": 1, "chargingProfile": PROFILE},
        (
            "SetChargingProfile",
            {
                "connectorId": 1,
                "csChargingProfiles": {
                    "chargingProfileId": 7,
                    "stackLevel": 1,
                    "chargingProfilePurpose": "TxDefaultProfile",
                    "chargingProfileKind": "Absolute",
                    "chargingSchedule": {
                        "duration": 900,
                        "startSchedule": "2026-05-29T00:00:00Z",
                        "chargingRateUnit": "A",
                        "chargingSchedulePeriod": [{"startPeriod": 0, "limit": 21.4, "numberPhases": 3}],
                    },
                },
            },
        ),
    ),
    "ClearChargingProfile": (
        {"chargingProfileCriteria": {"evseId": 1, "chargingProfilePurpose": "ChargingStationMaxProfile"}},
        ("ClearChargingProfile", {"connectorId": 1, "chargingProfilePurpose": "ChargePointMaxProfile"}),
    ),
    "GetCompositeSchedule": (
        {"duration": 600, "evseId": 1},
        ("GetCompositeSchedule", {"connectorId": 1, "duration": 600}),
    ),
    "TriggerMessage": (
        {"requestedMessage": "StatusNotification", "evse": {"id": 1}},
        ("TriggerMessage", {"requestedMessage": "StatusNotification", "connectorId": 1}),
    ),
    "SetVariables": (
        {"setVariableData": [{**VARIABLE, "attributeValue": "60"}]},
        ("ChangeConfiguration", {"key": "HeartbeatInterval", "value": "60"}),
    ),
    "GetVariables": ({"getVariableData": [VARIABLE]}, ("GetConfiguration", {"key": ["HeartbeatInterval"]})),
    "GetLog": (
        {"logType": "DiagnosticsLog", "requestId": 1, "log": LOG},
        ("GetDiagnostics", {"location": "https://x.example/logs"}),
    ),
    "UpdateFirmware": (
        {"requestId": 1, "firmware": FIRMWARE},
        ("UpdateFirmware", {"location": FIRMWARE["location"], "retrieveDate": FIRMWARE["retrieveDateTime"]}),
    ),
    "ClearCache": ({}, ("ClearCache", {})),
    "SetVariableMonitoring": ({"setMonitoringData": [MONITOR]}, "OCPP 1.6 has nothing like it"),
    "ClearVariableMonitoring": ({"id": [1]}, "OCPP 1.6 has nothing like it"),
    "PublishFirmware": (
        {"location": "https://x.example/f", "checksum": "0" * 32, "requestId": 1},
        "OCPP 1.6 has nothing like it",
    ),
    "UnpublishFirmware": ({"checksum": "0" * 32}, "OCPP 1.6 has nothing like it"),
}


def test_every_command_has_a_case() -> None:
    assert set(BODIES) == set(COMMANDS)


@pytest.mark.parametrize("command", BODIES)
def test_bodies_are_checked_and_translated(command: str) -> None:
    body, wanted = BODIES[command]
    before = json.dumps(body)
    check_command(command, body)
    with pytest.raises(CommandRefused, match="unexpected"):
        check_command(command, body | {"nonsense": 1})
    if isinstance(wanted, str):
        with pytest.raises(CommandRefused, match=wanted):
            to_16(command, body)
    else:
        assert to_16(command, body) == wanted
        check_schema(*wanted, "1.6")
    assert json.dumps(body) == before


SIGNED = {**FIRMWARE, "signingCertificate": "PEM", "signature": "c2ln"}


def test_signed_firmware_goes_by_the_security_extension() -> None:
    action, body = to_16("UpdateFirmware", {"requestId": 3, "retries": 2, "firmware": SIGNED})
    assert (action, body) == ("SignedUpdateFirmware", {"requestId": 3, "retries": 2, "firmware": SIGNED})
    check_schema(action, body, "1.6")


TOKEN = {"idToken": "ABC", "type": "Central"}
MORE = dict(PROFILE, chargingSchedule=PROFILE["chargingSchedule"] * 2)  # type: ignore[operator]


@pytest.mark.parametrize(
    ("command", "body", "words"),
    [
        ("Reset", {"type": "OnIdle", "evseId": 1}, "Reset: OCPP 1.6 Reset cannot carry evseId"),
        ("UnlockConnector", {"evseId": 1, "connectorId": 2}, "connector 2 of EVSE 1 has no number"),
        ("RequestStopTransaction", {"transactionId": "a-b"}, "'a-b' is no number"),
        (
            "RequestStartTransaction",
            {"idToken": TOKEN | {"idToken": "x" * 21}, "remoteStartId": 1},
            "came 21 characters",
        ),
        (
            "RequestStartTransaction",
            {"idToken": TOKEN, "remoteStartId": 1, "groupIdToken": TOKEN},
            "cannot carry groupIdToken",
        ),
        ("TriggerMessage", {"requestedMessage": "TransactionEvent"}, "cannot trigger TransactionEvent"),
        ("GetLog", {"logType": "SecurityLog", "requestId": 1, "log": LOG}, "not SecurityLog"),
        ("SetChargingProfile", {"evseId": 1, "chargingProfile": MORE}, "one charging schedule, came 2"),
        (
            "SetVariables",
            {"setVariableData": [{**VARIABLE, "attributeValue": "1"}] * 2},
            "one configuration key a request, came 2",
        ),
        (
            "UpdateFirmware",
            {"requestId": 1, "firmware": FIRMWARE | {"installDateTime": "2026-05-30T00:00:00Z"}},
            "UpdateFirmware cannot carry installDateTime",
        ),
    ],
)
def test_what_16_cannot_carry_is_refused(command: str, body: dict[str, Any], words: str) -> None:
    check_command(command, body)
    with pytest.raises(CommandRefused, match=words):
        to_16(command, body)


def outgoing(command: str = "Reset", station: str = "CP1") -> Outgoing:
    return Outgoing(
        cmd_id=CMD,
        site="CP1",
        station=station,
        command=command,
        body=BODIES[command][0],
        cause="operator/1",
        issued_ms=T0,
        expires_ms=T0 + 1500,
    )


RAW = Speech("ocpp_j", "ocpp/CP1/in", "ocpp1.6")


@pytest.mark.parametrize(
    ("form", "speech", "topic", "payload"),
    [
        ("raw", RAW, "ocpp/CP1/out", [2, CMD, "Reset", {"type": "Soft"}]),
        (
            "raw",
            Speech("ocpp_j", "ocpp/CP1/out", "ocpp2.0.1"),
            "ocpp/CP1/out",
            [2, CMD, "Reset", {"type": "OnIdle"}],
        ),
        (
            "wrapped",
            Speech("ocpp_j", "cs/in/ocpp1.6/CP1", "ocpp1.6"),
            "cs/out/ocpp1.6/CP1",
            {"type": 2, "action": "Reset", "id": CMD, "request": {"type": "Soft"}, "response": None},
        ),
    ],
)
def test_what_leaves_as_ocpp_j(form: str, speech: Speech, topic: str, payload: Any) -> None:
    publish = ocpp_j.build({"form": form, "commands": True}).publication(outgoing(), "CP1", speech)
    assert (publish.topic, json.loads(publish.payload), publish.until_ms) == (
        topic,
        payload,
        T0 + 1500,
    )
    assert publish.once == CMD


@pytest.mark.parametrize(
    ("options", "speech", "station", "words"),
    [
        ({}, RAW, "CP1", "only listened to: .* commands = false"),
        ({"commands": True}, None, "CP1", "no BootNotification"),
        ({"commands": True}, RAW, "CP2", "no OCPP-J station of its own"),
        ({"commands": True}, Speech("ocpp_j", "a/b", "ocpp1.6"), "CP1", "names no direction"),
    ],
)
def test_what_ocpp_j_refuses(
    options: dict[str, Any], speech: Speech | None, station: str, words: str
) -> None:
    with pytest.raises(CommandRefused, match=words):
        ocpp_j.build(options).publication(outgoing(station=station), "CP1", speech)


def play(commands: bool, answer: list[Any], command: str = "Reset") -> tuple[list[Any], Any]:
    """Boot a 1.6 station, ask for a command, and let it answer."""
    options = {"ocpp_j": {"commands": commands}}
    routes = (Route("ocpp/{node}/{rest}", "ocpp_j"),)
    order = OrderStage(0, OrderConfig(routes, options))
    control = ControlStage(0, ControlConfig(dialects=options))
    boot = [2, "b1", "BootNotification", {"chargePointVendor": "acme", "chargePointModel": "m"}]
    accepted = [3, "b1", {"status": "Accepted", "currentTime": "2026-05-29T00:00:00Z", "interval": 60}]
    wish = {
        "id": "1",
        "site": "CP1",
        "station": "CP1",
        "command": command,
        "by": "x",
        "expires_s": 60,
        "body": BODIES[command][0],
    }
    messages = [("ocpp/CP1/in", boot), ("ocpp/CP1/out", accepted), ("evt/v1/_op/command", wish)]
    rows, sent = [], []
    for i, (topic, body) in enumerate(messages):
        frame = Frame.build([((T0 + i) * 1_000_000, topic.encode(), json.dumps(body).encode(), 0)])
        for batch in order.process((0, i, frame)):
            for out in control.process(batch):
                rows += out.commands
                sent += [p for p in out.publishes if "/_ctl/" not in p.topic]
    payload = json.dumps([answer[0], rows[0].cmd_id, *answer[1:]]).encode()
    frame = Frame.build([((T0 + 9) * 1_000_000, b"ocpp/CP1/in", payload, 0)])
    for batch in order.process((0, 3, frame)):
        for out in control.process(batch):
            rows += out.commands
    return rows, sent


@pytest.mark.parametrize(
    ("answer", "state", "status"),
    [
        ([3, {"status": "Accepted"}], "accepted", "Accepted"),
        ([3, {"status": "Rejected"}], "rejected", "Rejected"),
        ([4, "InternalError", "broken", {}], "failed", ""),
        ([3, "nonsense"], "failed", ""),
    ],
)
def test_a_16_station_answers_by_the_message_id(answer: list[Any], state: str, status: str) -> None:
    rows, sent = play(True, answer)
    assert [p.topic for p in sent] == ["ocpp/CP1/out"]
    assert (rows[-1].state, rows[-1].status) == (state, status), rows[-1].reason
    if answer[0] == 4:
        assert "InternalError broken" in rows[-1].reason


def test_answers_with_a_list_or_without_a_status() -> None:
    assert play(True, [3, {}], "UpdateFirmware")[0][-1].state == "accepted"
    listed = {"setVariableResult": [{"attributeStatus": "Accepted"}, {"attributeStatus": "UnknownVariable"}]}
    rows, _ = play(True, [3, listed], "SetVariables")
    assert (rows[-1].state, rows[-1].status) == ("rejected", "UnknownVariable")


def test_a_station_that_is_only_listened_to_gets_nothing() -> None:
    rows, sent = play(False, [3, {"status": "Accepted"}])
    assert sent == []
    assert [(row.event, row.state) for row in rows] == [("asked", "requested"), ("refuse", "failed")]
    assert "commands = false" in rows[-1].reason
