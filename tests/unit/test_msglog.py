"""The message log: the same bytes come back, and a bad line is named."""

from __future__ import annotations

import gzip
import json
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors.msglog import LogWriter, read_frames
from models.errors import DecodeError
from models.frame import RETAINED, Frame

Message = tuple[int, str, bytes, int]


def messages(path: Path, block_messages: int = 8192) -> list[Message]:
    return [message for frame in read_frames(path, block_messages) for message in rows(frame)]


def rows(frame: Frame) -> list[Message]:
    return [
        (int(frame.recv_ns[i]), frame.topic(i).decode(), frame.payload(i), int(frame.flags[i]))
        for i in range(len(frame))
    ]


def log(tmp_path: Path, *lines: str) -> Path:
    path = tmp_path / "log.jsonl"
    path.write_text("\n".join(lines) + "\n")
    return path


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)
payloads = st.one_of(
    st.binary(max_size=60),
    st.text(max_size=60).map(str.encode),
    json_values.map(lambda v: json.dumps(v).encode()),
    json_values.map(lambda v: json.dumps(v, ensure_ascii=False, indent=1).encode()),
    st.builds(lambda t: json.dumps({"base64": t}).encode(), st.text(max_size=8)),
    st.builds(lambda t: b" " + json.dumps({"base64": t, "x": 1}).encode(), st.text(max_size=8)),
    st.sampled_from(
        [b"", b"{", b"[1,2", b'{"a":01}', b"[" * 5000 + b"]" * 5000, b'{"a":"\\ud800"}', b'"x"', b"42"]
    ),
)
topics = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)


@settings(max_examples=150)
@given(
    st.lists(st.tuples(st.integers(0, 2**43), topics, payloads, st.booleans()), max_size=12),
    st.sampled_from(["log.jsonl", "log.jsonl.gz", "log.jsonl.zst"]),
    st.integers(1, 5),
)
def test_what_was_written_is_read(
    given_messages: list[tuple[int, str, bytes, bool]], name: str, block_messages: int
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, name)
        with LogWriter(path) as writer:
            for ms, topic, payload, retained in given_messages:
                writer.write(ms * 1_000_000 + 999_999, topic, payload, retained=retained)
        frames = list(read_frames(path, block_messages))
    assert writer.messages == len(given_messages)
    assert [row for frame in frames for row in rows(frame)] == [
        (ms * 1_000_000, topic, payload, RETAINED * retained)
        for ms, topic, payload, retained in given_messages
    ]
    assert all(len(frame) == block_messages for frame in frames[:-1])


def test_json_stands_in_the_line_as_it_came(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    payload = b'{"b": 1.50,  "a": [1e2, "\xc3\xa9", "\\u00e9"]}'
    with LogWriter(path) as writer:
        writer.write(5_000_000, "a/b", payload)
        writer.write(6_000_000, "a/b", b"\xff\x00")
        writer.write(7_000_000, "a/b", b'{"a":\n1}')
    assert path.read_bytes().splitlines() == [
        b'{"t":5,"topic":"a/b","payload":' + payload + b"}",
        b'{"t":6,"topic":"a/b","payload":{"base64":"/wA="}}',
        b'{"t":7,"topic":"a/b","payload":"{\\"a\\":\\n1}"}',
    ]


def test_what_other_writers_may_write(tmp_path: Path) -> None:
    path = log(
        tmp_path,
        '{"topic": "x", "extra": [1], "t": 1, "payload": { "base64" : "QUI=" } }',
        "",
        '{"t":2,"topic":"x","payload":{"base64":"QUI=","more":1}}',
        '{"t":3,"topic":"x","payload":"caf\\u00e9"}\r',
        '{"t":4,"topic":"x","payload":42}',
    )
    found = messages(path)
    assert [m[2] for m in found] == [b"AB", b'{"base64":"QUI=","more":1}', "café".encode(), b"42"]
    assert [m[0] for m in found] == [1_000_000, 2_000_000, 3_000_000, 4_000_000]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("nonsense", "malformed"),
        ('{"t":1,"topic":"x"}', "missing required field `payload`"),
        ('{"t":"1","topic":"x","payload":{}}', "Expected `int`, got `str`"),
        ('{"t":-1,"topic":"x","payload":{}}', "Expected `int` >= 0"),
        ('{"t":9999999999999999,"topic":"x","payload":{}}', "Expected `int` <= "),
        ('{"t":1,"topic":"","payload":{}}', "length >= 1"),
        ('{"t":1,"topic":"x","payload":{"base64":"%"}}', "base64"),
        ('{"t":1,"topic":"x","payload":{"base64":5}}', "the value of base64 is not text"),
        ('{"t":1,"topic":"x","payload":{"a":1}', "truncated"),
        ("[1]", "Expected `object`, got `array`"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, line: str, reason: str) -> None:
    good = '{"t":1,"topic":"x","payload":{}}'
    padding = " " * 150  # several blocks of the reader come before it
    path = log(tmp_path, *[good + padding] * 9000, "", line, good)
    with pytest.raises(DecodeError) as caught:
        list(read_frames(path))
    assert f"{path} line 9002: " in str(caught.value)
    assert reason in str(caught.value)
    assert 'expected {"t": epoch ms' in str(caught.value)


def test_damaged_files(tmp_path: Path) -> None:
    cut = tmp_path / "cut.jsonl.gz"
    whole = gzip.compress(b'{"t":1,"topic":"x","payload":{}}\n' * 100)
    cut.write_bytes(whole[:-12])
    with pytest.raises(DecodeError, match="compressed data is damaged"):
        messages(cut)
    not_zst = tmp_path / "x.zst"
    not_zst.write_bytes(b"no zstandard here")
    with pytest.raises(DecodeError, match="compressed data is damaged"):
        messages(not_zst)
    with pytest.raises(DecodeError, match="cannot be read: No such file"):
        messages(tmp_path / "none.jsonl")


def test_a_five_megabyte_message_and_an_empty_log(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl.zst"
    payload = b'{"x":"' + b"a" * 5_000_000 + b'"}'
    with LogWriter(path) as writer:
        writer.write(0, "big", payload)
        writer.write(1_000_000, "big", payload[:-1])
    assert [m[2] for m in messages(path)] == [payload, payload[:-1]]
    (tmp_path / "empty.jsonl").touch()
    assert messages(tmp_path / "empty.jsonl") == []


def test_frames_do_not_depend_on_how_the_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    with LogWriter(path) as writer:
        for i in range(20_000):
            writer.write(i * 1_000_000, f"t/{i}", b'{"i":%d,"pad":"%s"}' % (i, b"x" * (i % 300)))
    frames = list(read_frames(path, 7_000))
    assert [len(frame) for frame in frames] == [7_000, 7_000, 6_000]
    assert [row[0] for frame in frames for row in rows(frame)] == [i * 1_000_000 for i in range(20_000)]
    assert frames[1].topic(5) == b"t/7005"
    assert frames[2].payload(5_999).startswith(b'{"i":19999,')


def test_flush_makes_a_running_log_readable(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    writer = LogWriter(path)
    writer.write(0, "x", b"{}")
    writer.flush()
    assert len(messages(path)) == 1
    writer.close()


def test_the_native_sample_reads(data_dir: Path) -> None:
    path = data_dir / "native-sample" / "messages.jsonl.gz"
    with gzip.open(path, "rt") as file:
        lines = [json.loads(line) for line in file]
    found = messages(path)
    assert [(m[0], m[1]) for m in found] == [(line["t"] * 1_000_000, line["topic"]) for line in lines]
    assert [json.loads(m[2]) for m in found] == [line["payload"] for line in lines]
