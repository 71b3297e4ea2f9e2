"""Any bytes on any topic into every dialect give records or a `DecodeError`, never another exception."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models import batch as b
from models import plugins
from models.errors import DecodeError
from pipeline.dialects import Dialect, Message, Topic

from .dialect_sink import KIND_NAMES, CollectingSink

GOLDEN = Path(__file__).parents[1] / "golden" / "dialects"
OPTIONS: dict[str, list[dict[str, Any]]] = {
    "ocpp_j": [{"form": "raw"}, {"form": "wrapped"}, {"answers": False}]
}
DIALECTS = [(name, o) for name in plugins.names("pipeline.dialects") for o in OPTIONS.get(name, [{}])]


def seeds() -> list[Any]:
    """Return every payload of the golden cases as a value."""
    found = []
    for path in sorted(GOLDEN.glob("*/*/input.jsonl")):
        for line in path.read_text().splitlines():
            payload = json.loads(line)["payload"]
            if isinstance(payload, str):
                try:
                    payload = json.loads(payload)
                except ValueError:
                    continue
            found.append(payload)
    return found


SEEDS = seeds()
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


@st.composite
def spoilt(draw: st.DrawFn) -> Any:
    """Draw a golden payload with one or two parts replaced."""
    value = draw(st.sampled_from(SEEDS))
    for _ in range(draw(st.integers(0, 2))):
        value = put(value, draw(st.sampled_from(places(value))), draw(ODD))
    return value


def encode(value: Any, msgpack: bool) -> bytes:
    try:
        return msgspec.msgpack.encode(value) if msgpack else json.dumps(value).encode()
    except (OverflowError, ValueError):
        return json.dumps(value).encode()


PAYLOADS = st.one_of(
    st.binary(max_size=60),
    st.builds(encode, spoilt(), st.booleans()),
    st.builds(lambda v, k: encode(v, False)[:k], spoilt(), st.integers(0, 300)),
    st.builds(lambda v, k, c: bytes([*v[: k % (len(v) + 1)], c, *v[k % (len(v) + 1) + 1 :]]),
              st.builds(encode, spoilt(), st.booleans()), st.integers(0, 10**4), st.integers(0, 255)),
)  # fmt: skip
TOPICS = st.builds(
    lambda kind, text, msgpack: Topic(text, "x", kind, "site", "node", msgpack, text),
    st.sampled_from(sorted(KIND_NAMES)),
    st.sampled_from(["CP1/in", "CP1/out", "cs/in/ocpp16/CP1", "cs/out/ocpp201/CP1", "a", ""])
    | st.text(max_size=8),
    st.booleans(),
)


@pytest.mark.parametrize(("name", "options"), DIALECTS)
def test_any_bytes(name: str, options: dict[str, Any]) -> None:
    module = plugins.load("pipeline.dialects", name)
    dialect: Dialect = module.build(options)
    taken = 0

    @settings(max_examples=400, deadline=None)
    @given(PAYLOADS, TOPICS, st.integers(0, 10**19))
    def feed(payload: bytes, topic: Topic, recv_ns: int) -> None:
        nonlocal taken
        sink = CollectingSink()
        try:
            dialect.decode(Message(topic, payload, recv_ns, False), sink)
        except DecodeError as error:
            assert error.reason
            assert len(str(error)) < 2000
        else:
            taken += 1
            assert sink.of("head") or topic.kind == b.OPERATOR
            for call in sink.calls:
                msgspec.msgpack.encode(call[1], enc_hook=lambda a: a.tolist())

    feed()
    assert taken > 10
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
