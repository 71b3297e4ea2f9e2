"""OCPP-J beyond the golden cases: memory is bounded and plain, options are checked, tokens stay here."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models import batch as b
from models.errors import ConfigError, DecodeError, SnapshotError
from pipeline.dialects import Dialect, Message, Topic
from pipeline.dialects._ocpp_state import MAX_OPEN, MAX_RAISED, MAX_SEEN, MAX_WAITING, State
from pipeline.dialects.ocpp_j import Config, OcppJ, build

from .dialect_sink import CollectingSink

S = 1_000_000_000


def send(
    dialect: Dialect, payload: Any, at_s: float = 0, *, node: str = "CP1", way: str = "in"
) -> CollectingSink:
    sink = CollectingSink()
    topic = Topic(f"{node}/{way}", "ocpp_j", b.OTHER, node, node, rest=way)
    data = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    dialect.decode(Message(topic, data, int(at_s * S), False), sink)
    return sink


def start(message_id: str, connector: int = 1, meter: int = 1000) -> list[Any]:
    body = {
        "connectorId": connector,
        "idTag": "SECRET-TAG",
        "timestamp": "2026-06-10T05:30:05Z",
        "meterStart": meter,
    }
    return [2, message_id, "StartTransaction", body]


def stop(message_id: str, tx: int) -> list[Any]:
    return [
        2,
        message_id,
        "StopTransaction",
        {"transactionId": tx, "meterStop": 1, "timestamp": "2026-06-10T05:31:00Z"},
    ]


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"form": "soap"}, "form is 'soap', expected raw or wrapped"),
        ({"answer_timeout_s": 0}, "answer_timeout_s is 0, expected seconds above 0"),
        ({"repeat_s": "long"}, "repeat_s is 'long'"),
        ({"answers": 1}, "answers is 1, expected true or false"),
        ({"token_salt": 5}, "token_salt is no text"),
        ({"colour": "red"}, "unknown option colour; there are form"),
    ],
)
def test_options_are_checked(options: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        build(options)


def test_the_salt_is_masked() -> None:
    assert "pepper" not in repr(Config(token_salt="pepper"))


def test_no_token_travels_on() -> None:
    dialect = build({})
    outcome = repr(
        [send(dialect, start("1")).calls, send(dialect, [3, "1", {"transactionId": 7}], 1, way="out").calls]
    )
    assert "SECRET-TAG" not in outcome + repr(dialect.snapshot())
    (started,) = send(build({"answers": False}), start("1")).of("transaction")
    assert len(started["id_token_hash"]) == 64
    other = build({"answers": False, "token_salt": "x"})
    assert send(other, start("1")).of("transaction")[0]["id_token_hash"] != started["id_token_hash"]


def test_without_answers_nothing_waits() -> None:
    dialect = build({"answers": False})
    (started,) = send(dialect, start("1")).of("transaction")
    again = build({"answers": False})
    assert send(again, start("other-id"), 99).of("transaction")[0]["tx_id"] == started["tx_id"]
    (ended,) = send(dialect, stop("2", 4711), 10).of("transaction")
    assert (ended["tx_id"], ended["evse"]) == (started["tx_id"], 1)
    boot = [2, "b", "BootNotification", {"chargePointVendor": "A", "chargePointModel": "B"}]
    assert send(dialect, boot, 20).of("birth")[0]["hb_s"] is None


def test_a_repeated_call_counts_once() -> None:
    dialect = build({"repeat_s": 100})
    assert isinstance(dialect, OcppJ)
    body = {"type": "X", "timestamp": "2026-06-10T05:30:05Z"}
    event = [2, "1", "SecurityEventNotification", body]
    assert len(send(dialect, event, 0).of("event")) == 1
    assert len(send(dialect, event, 50).of("event")) == 0
    other = [*event[:3], body | {"type": "Y"}]
    assert len(send(dialect, other, 60).of("event")) == 1  # the id is used again for something else
    assert len(send(dialect, event, 60, node="CP2").of("event")) == 1
    assert len(send(dialect, other, 161).of("event")) == 1
    assert dialect.ignored == {"repeated SecurityEventNotification": 1}


def test_a_message_refused_is_not_remembered() -> None:
    dialect = build({})
    bad = [2, "1", "StartTransaction", {"connectorId": 1, "idTag": "T", "timestamp": "?", "meterStart": 1}]
    before = dialect.snapshot()
    for _ in range(2):
        with pytest.raises(DecodeError, match="time"):
            send(dialect, bad)
    assert dialect.snapshot() == before


def test_an_expired_start_is_not_lost_with_a_bad_message() -> None:
    dialect = build({})
    send(dialect, start("1"), 0)
    with pytest.raises(DecodeError):
        send(dialect, b"not json", 100)
    assert len(send(dialect, [2, "2", "Heartbeat", {}], 101).of("transaction")) == 1


def test_memory_is_bounded() -> None:
    dialect = build({})
    assert isinstance(dialect, OcppJ)
    started = 0
    for i in range(MAX_WAITING + 5):
        started += len(send(dialect, start(f"s{i}", connector=i + 1), i / 100).of("transaction"))
    assert started == 5
    answered = build({})
    for i in range(MAX_OPEN + 9):
        send(answered, start(f"s{i}", connector=i + 1), i)
        send(answered, [3, f"s{i}", {"transactionId": i + 1}], i, way="out")
    for i in range(MAX_RAISED + 9):
        send(
            answered,
            [2, f"e{i}", "StatusNotification", {"connectorId": i, "status": "Faulted", "errorCode": "X"}],
            i,
        )
    node = answered.snapshot()["nodes"]["CP1/CP1"]
    assert (len(node["open"]), len(node["raised"])) == (MAX_OPEN, MAX_RAISED)
    state = State()
    for i in range(MAX_SEEN + 10):
        state.note_seen("n", str(i), "a", b"", i)
    assert len(state.snapshot()["seen"]) == MAX_SEEN
    for i in range(400):
        send(dialect, [2, "x", f"Unheard{i}", {}], i)
    assert len(dialect.ignored) <= 257


def test_an_idle_node_leaves_no_trace() -> None:
    dialect = build({})
    for k in range(20):
        send(dialect, [2, "1", "Heartbeat", {}], k, node=f"CP{k}")
    assert dialect.snapshot()["nodes"] == {}


def test_state_of_another_version_is_refused() -> None:
    with pytest.raises(SnapshotError, match="version 9, this program reads 1"):
        build({}, {"version": 9})


def script() -> list[tuple[Any, str, int]]:
    """Return messages that use every kind of memory: (payload, way, second)."""
    status = {"connectorId": 1, "status": "Faulted", "errorCode": "GroundFailure"}
    boot = [2, "b", "BootNotification", {"chargePointVendor": "A", "chargePointModel": "B"}]
    values = [{"timestamp": "2026-06-10T05:30:30Z", "sampledValue": [{"value": "5"}]}]
    return [
        (boot, "in", 0),
        (start("1"), "in", 1),
        ([2, "2", "StatusNotification", status], "in", 2),
        ([3, "b", {"status": "Accepted", "interval": 60}], "out", 3),
        (start("3", 2), "in", 4),
        (start("3", 2), "in", 5),
        ([3, "1", {"transactionId": 5}], "out", 6),
        ([2, "4", "MeterValues", {"connectorId": 2, "transactionId": 6, "meterValue": values}], "in", 7),
        ([2, "5", "StatusNotification", status | {"errorCode": "NoError"}], "in", 8),
        (start("6", 3), "in", 9),
        (stop("7", 5), "in", 80),
        (stop("8", 6), "in", 81),
        (stop("9", 77), "in", 82),
    ]


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 13))
def test_restored_anywhere_it_goes_on_the_same(cut: int) -> None:
    whole = build({})
    expected = [send(whole, p, t, way=way).readable() for p, way, t in script()]
    first = build({})
    got = [send(first, p, t, way=way).readable() for p, way, t in script()[:cut]]
    saved = msgspec.msgpack.decode(msgspec.msgpack.encode(first.snapshot()))
    second = build({}, saved)
    got += [send(second, p, t, way=way).readable() for p, way, t in script()[cut:]]
    assert got == expected
    assert second.snapshot() == whole.snapshot()
    kept = json.dumps(first.snapshot())
    for p, way, t in script()[cut:]:
        send(first, p, t, way=way)
    assert json.dumps(build({}, saved).snapshot()) == kept  # a snapshot is a copy


def test_an_error_in_the_wrapped_form_keeps_its_words() -> None:
    cmd_id = "6c2bd1ba-f9b8-5b3a-a0a7-0a4b5a0a4e51"
    body = {"type": 4, "id": cmd_id, "error_code": "InternalError", "error_description": "broken"}
    sink = CollectingSink()
    topic = Topic("cs/in/ocpp1.6/CP1", "ocpp_j", b.OTHER, "CP1", "CP1", rest="")
    dialect = build({"form": "wrapped", "commands": True})
    dialect.decode(Message(topic, json.dumps(body).encode(), S, False), sink)
    (told,) = [fields["body"] for name, fields in sink.calls if name == "command_result"]
    assert told == {"error": {"code": "InternalError", "description": "broken"}}
