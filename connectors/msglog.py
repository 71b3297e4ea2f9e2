"""The message log: MQTT messages in arrival order as JSON Lines, for replay, tests and exchange.

A line is ``{"t": arrival epoch ms, "topic": "...", "payload": {...} | "text" | {"base64": "..."}}``; a
message that the broker delivered because it had retained it adds ``"retained": true``. A name that
ends in ``.gz`` or ``.zst`` is compressed. Other keys are ignored, and so are empty lines.

Payload bytes survive a round trip exactly: JSON objects and arrays stand in the line as they came where a
line can hold them, all other UTF-8 as text, the rest as base64. Arrival is kept to the millisecond.
"""

from __future__ import annotations

import base64
import errno
import gzip
import re
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Annotated, Any, Final, Self, cast

import msgspec
import numpy as np
import zstandard
from numpy.typing import NDArray

from models.errors import DecodeError, StorageError, StorageFull
from models.frame import RETAINED, Frame
from models.units import NS_PER_MS

_BLOCK_BYTES: Final = 1 << 20
_MAX_MS: Final = (2**63 - 1) // NS_PER_MS
_EXPECTED: Final = 'expected {"t": epoch ms, "topic": text, "payload": object, text or {"base64": text}}'
_BASE64_FIRST: Final = re.compile(rb'\{\s*"base64"\s*:')
_BAD_LINE: Final = (msgspec.MsgspecError, ValueError, RecursionError)
_BAD_FILE: Final = (EOFError, zlib.error, gzip.BadGzipFile, zstandard.ZstdError)


class _Line(msgspec.Struct, frozen=True, gc=False):
    t: Annotated[int, msgspec.Meta(ge=0, le=_MAX_MS)]
    topic: Annotated[str, msgspec.Meta(min_length=1)]
    payload: msgspec.Raw
    retained: bool = False


_decoder: Final = msgspec.json.Decoder(_Line)
_text: Final = msgspec.json.Decoder(str)


def read_frames(path: Path, block_messages: int = 8192) -> Iterator[Frame]:
    """Yield the messages of a log in frames of `block_messages`, the last one shorter.

    Raises
    ------
    DecodeError
        At a bad line; the text names file and line number and what was expected. Also if the file cannot
        be read or its compression is damaged.
    """
    held: list[Frame] = []
    count = 0
    for block, line in _blocks(path):
        frame = _frame(path, block, line)
        while count + len(frame) >= block_messages:
            cut = block_messages - count
            yield Frame.concat([*held, frame.slice(0, cut)])
            frame, held, count = frame.slice(cut, len(frame)), [], 0
        if len(frame):
            held.append(frame)
            count += len(frame)
    if held:
        yield Frame.concat(held)


def _blocks(path: Path) -> Iterator[tuple[bytes, int]]:
    """Yield runs of whole lines with the number of their first line."""
    rest, line = b"", 1
    try:
        with _open(path, "rb") as file:
            while block := file.read(_BLOCK_BYTES):
                block = rest + block
                cut = block.rfind(b"\n") + 1
                rest = block[cut:]
                if cut:
                    yield block[:cut], line
                    line += block.count(b"\n", 0, cut)
    except _BAD_FILE as error:
        raise DecodeError("log", f"{path} after line {line}: compressed data is damaged: {error}") from error
    except OSError as error:
        raise DecodeError("log", f"{path} cannot be read: {error.strerror}") from error
    if rest:
        yield rest, line


def _frame(path: Path, block: bytes, first_line: int) -> Frame:
    try:
        return _columns(_decoder.decode_lines(block))
    except _BAD_LINE as whole:
        # Only now is it worth knowing which line it was.
        for number, line in enumerate(block.split(b"\n"), first_line):
            if line.strip():
                try:
                    _columns([_decoder.decode(line)])
                except _BAD_LINE as error:
                    raise DecodeError("log", f"{path} line {number}: {error}; {_EXPECTED}") from error
        raise DecodeError("log", f"{path} from line {first_line}: {whole}; {_EXPECTED}") from whole


def _columns(lines: Sequence[_Line]) -> Frame:
    payloads = list(map(bytes, [cast("bytes", line.payload) for line in lines]))
    joined = b"".join(payloads)
    ends = np.cumsum(np.fromiter(map(len, payloads), np.int64, len(payloads)))
    first = np.frombuffer(joined, np.uint8)[np.concatenate(([0], ends[:-1]))] if lines else ends
    special = np.flatnonzero(first == ord('"')).tolist()
    if b'"base64"' in joined:
        special += [i for i, payload in enumerate(payloads) if _BASE64_FIRST.match(payload)]
    for i in special:
        payloads[i] = _unwrap(payloads[i])
    if special:
        joined = b"".join(payloads)
        ends = np.cumsum(np.fromiter(map(len, payloads), np.int64, len(payloads)))
    topics = [line.topic for line in lines]
    text = "".join(topics)
    names: Sequence[str | bytes] = topics if text.isascii() else [topic.encode() for topic in topics]
    return Frame(
        np.array([line.t for line in lines], np.int64) * NS_PER_MS,
        np.cumsum(np.fromiter(map(len, names), np.int64, len(names))),
        ends,
        _flags(lines),
        text.encode(),
        joined,
    )


def _flags(lines: Sequence[_Line]) -> NDArray[np.uint8]:
    return np.array([line.retained for line in lines], np.uint8) * np.uint8(RETAINED)


def _unwrap(payload: bytes) -> bytes:
    """Return the bytes that a text or a {"base64": text} payload stands for; other objects as they are."""
    if payload.startswith(b'"'):
        return _text.decode(payload).encode()
    value = msgspec.json.decode(payload)
    if set(value) != {"base64"}:
        return payload
    if not isinstance(value["base64"], str):
        raise ValueError("the value of base64 is not text")
    return base64.b64decode(value["base64"], validate=True)


class LogWriter:
    """Writes a message log; compresses by the name of the file.

    Attributes
    ----------
    messages : int
        Messages written so far.

    Raises
    ------
    StorageError
        From every method, if the file cannot be written; `StorageFull` when the disk is full.
    """

    def __init__(self, path: Path) -> None:
        self.messages = 0
        self._path = path
        with self._writing():
            self._file = _open(path, "wb")

    def write(self, recv_ns: int, topic: str, payload: bytes, *, retained: bool = False) -> None:
        """Add one message that arrived at `recv_ns` (Unix time, ns)."""
        line = b'{"t":%d,"topic":%s,"payload":%s%s}\n' % (
            recv_ns // NS_PER_MS,
            msgspec.json.encode(topic),
            _wrap(payload),
            b',"retained":true' if retained else b"",
        )
        with self._writing():
            self._file.write(line)
        self.messages += 1

    def write_object(self, recv_ns: int, topic: str, payload: bytes) -> None:
        """Add one message whose payload is known to be a JSON object on one line, not {"base64": …}."""
        with self._writing():
            self._file.write(
                b'{"t":%d,"topic":"%s","payload":%s}\n' % (recv_ns // NS_PER_MS, topic.encode(), payload)
            )
        self.messages += 1

    def flush(self) -> None:
        """Hand everything written so far to the operating system."""
        with self._writing():
            self._file.flush()

    def close(self) -> None:
        """Finish the file."""
        with self._writing():
            self._file.close()

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            kind = StorageFull if error.errno == errno.ENOSPC else StorageError
            raise kind(f"message log {self._path} cannot be written: {error.strerror}") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _wrap(payload: bytes) -> bytes:
    """Return the JSON that stands for `payload` in a line."""
    try:
        text = payload.decode()
    except UnicodeDecodeError:
        return _as_base64(payload)
    # Only what starts, ends and stays within its own line can be read back to the same bytes.
    if text[:1] in {"{", "["} and text[-1] in "}]" and "\n" not in text and "\r" not in text:
        try:
            value = msgspec.json.decode(payload)
        except (msgspec.DecodeError, RecursionError):
            return msgspec.json.encode(text)
        alone = isinstance(value, dict) and set(value) == {"base64"}
        return _as_base64(payload) if alone else payload
    return msgspec.json.encode(text)


def _as_base64(payload: bytes) -> bytes:
    return b'{"base64":"%s"}' % base64.b64encode(payload)


def _open(path: Path, mode: str) -> IO[bytes]:
    if path.suffix == ".gz":
        return cast("IO[bytes]", gzip.open(path, mode))
    if path.suffix == ".zst":
        raw: Any = path.open(mode)
        if mode == "wb":
            return cast("IO[bytes]", zstandard.ZstdCompressor().stream_writer(raw))
        return cast("IO[bytes]", zstandard.ZstdDecompressor().stream_reader(raw, read_across_frames=True))
    return cast("IO[bytes]", path.open(mode))
