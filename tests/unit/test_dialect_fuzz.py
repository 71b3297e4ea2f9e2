"""Any bytes on any topic into every dialect give records or a `DecodeError`, never another exception."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models import plugins
from models.errors import DecodeError
from models.topics import Route, Router
from pipeline.dialects import Dialect, Message, Topic

from .dialect_sink import KIND_NAMES, CollectingSink, topic_of

GOLDEN = Path(__file__).parents[1] / "golden" / "dialects"
OPTIONS: dict[str, list[dict[str, Any]]] = {
    "ocpp_j": [{"form": "raw"}, {"form": "wrapped"}, {"answers": False}]
}
DIALECTS = [(name, o) for name in plugins.names("pipeline.dialects") for o in OPTIONS.get(name, [{}])]


def seeds(name: str, form: str) -> list[tuple[str, Any]]:
    """Return (topic, payload) of every message in the golden cases of a dialect and form."""
    found = []
    for path in sorted(GOLDEN.glob(f"{name}/{form}*/input.jsonl")):
        for line in path.read_text().splitlines():
            entry = json.loads(line)
            payload = entry["payload"]
            if isinstance(payload, str):
                try:
                    payload = json.loads(payload)
                except ValueError:
                    continue
            found.append((entry["topic"], payload))
    return found


ODD = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(),
    st.text(max_size=12),
    st.sampled_from(
        ["NaN", "1e999999", "9999-99-99T00:00:00Z", "2026-06-10T05:30:00Z", "x" * 300, [], {}, [[]], [{}]]
    ),
)


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return the path of every part of a JSON value."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path] + [p for key, part in inner for p in places(part, (*path, key))]


def put(value: Any, path: tuple[Any, ...], new: Any) -> Any:
    """Return a copy of `value` with `new` at `path`."""
    if not path:
        return new
    copy = dict(value) if isinstance(value, dict) else list(value)
    copy[path[0]] = put(value[path[0]], path[1:], new)
    return copy


def spoil(draw: st.DrawFn, value: Any) -> Any:
    """Return a value with up to two parts replaced."""
    for _ in range(draw(st.integers(0, 2))):
        value = put(value, draw(st.sampled_from(places(value))), draw(ODD))
    return value


def encode(value: Any, msgpack: bool) -> bytes:
    try:
        return msgspec.msgpack.encode(value) if msgpack else json.dumps(value).encode()
    except (OverflowError, ValueError):
        return json.dumps(value).encode()


ROUTER = Router(
    [
        Route("evt/v1/_op/#", "x"),
        Route("evt/v1/{site}/{node}/{rest}", "x"),
        Route("cs/+/+/{node}", "x"),
        Route("{node}/{rest}", "x"),
    ]
)
ANY_TOPIC = st.builds(
    lambda kind, text, msgpack: Topic(text, "x", kind, "site", "node", msgpack, text),
    st.sampled_from(sorted(KIND_NAMES)),
    st.sampled_from(["CP1/in", "cs/out/ocpp201/CP1", "a", ""]) | st.text(max_size=8),
    st.booleans(),
)


@st.composite
def messages(draw: st.DrawFn, known: list[tuple[str, Any]]) -> Message:
    """Draw a message: a golden one, spoilt, cut, changed in a byte; or any bytes on any topic."""
    text, value = draw(st.sampled_from(known))
    topic = topic_of(ROUTER, text)
    payload = encode(spoil(draw, value), topic.msgpack)
    how = draw(st.integers(0, 9))
    if how == 0:
        payload = draw(st.binary(max_size=60))
    elif how == 1:
        payload = payload[: draw(st.integers(0, len(payload)))]
    elif how == 2 and payload:
        at = draw(st.integers(0, len(payload) - 1))
        payload = payload[:at] + draw(st.binary(max_size=2)) + payload[at + 1 :]
    elif how == 3:
        topic = draw(ANY_TOPIC)
    return Message(topic, payload, draw(st.integers(0, 10**19)), draw(st.booleans()))


@pytest.mark.parametrize(("name", "options"), DIALECTS)
def test_any_bytes(name: str, options: dict[str, Any]) -> None:
    module = plugins.load("pipeline.dialects", name)
    dialect: Dialect = module.build(options)
    form = {"ocpp_j": options.get("form", "raw")}.get(name, "")
    taken: list[Message] = []

    @settings(max_examples=500, deadline=None)
    @given(messages(seeds(name, form)))
    def feed(message: Message) -> None:
        sink = CollectingSink()
        try:
            dialect.decode(message, sink)
        except DecodeError as error:
            if not error.reason or len(str(error)) > 2000:
                raise AssertionError("an error without a reason, or one as long as the message") from error
            return
        taken.append(message)
        assert sink.calls[0][0] == "head"
        for _, arguments in sink.calls:
            msgspec.msgpack.encode(arguments, enc_hook=lambda a: a.tolist())

    feed()
    assert len(taken) > 40
    msgspec.msgpack.encode(dialect.snapshot())


@pytest.mark.parametrize(("name", "options"), DIALECTS)
def test_hostile_shapes(name: str, options: dict[str, Any]) -> None:
    module = plugins.load("pipeline.dialects", name)
    shapes = [
        b"[" * 10**6,
        b'{"a":' * 10**5,
        b'[2,"1","MeterValues",' + b"[" * 10**5,
        b"9" * 10**5,
        b'[2,"1","Heartbeat",{"x":' + b"9" * 10**4 + b"}]",
        b'{"v":' + b"9" * 10**4 + b"}",
        b'{"series":[{"evse":' + b"9" * 5000 + b"}]}",
        b"\x00" * 1000,
        b'"' + b"\xff" * 1000 + b'"',
    ]
    for kind in KIND_NAMES:
        for text in ("CP1/in", "CP1/out"):
            for shape in shapes:
                dialect = module.build(options)
                try:
                    dialect.decode(
                        Message(Topic(text, "x", kind, "s", "n"), shape, 0, False), CollectingSink()
                    )
                except DecodeError:
                    continue
