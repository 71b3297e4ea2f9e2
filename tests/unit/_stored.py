"""Messages for the tests of what is stored, and ways to damage a file."""

from __future__ import annotations

import random
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from models.frame import Frame

Message = tuple[int, bytes, bytes, int]


def make(recv_ns: Sequence[int], shard: int = 0, size: int = 40) -> list[Message]:
    """Return one message per arrival, each different from every other."""
    return [
        (
            t,
            f"evt/v1/site-{shard}/n{t % 7}/up/meter".encode(),
            f"{shard}:{t}:".encode().ljust(size, b"."),
            t % 2,
        )
        for t in recv_ns
    ]


def unpack(frame: Frame) -> list[Message]:
    """Return the messages of a frame."""
    return [
        (int(frame.recv_ns[i]), frame.topic(i), frame.payload(i), int(frame.flags[i]))
        for i in range(len(frame))
    ]


def flip(path: Path, rng: random.Random, count: int, start: int = 0) -> None:
    """Change `count` bytes of a file beyond `start`."""
    data = bytearray(path.read_bytes())
    for _ in range(count):
        data[rng.randrange(start, len(data))] ^= rng.randrange(1, 256)
    path.write_bytes(data)


@contextmanager
def small_disk(folder: Path, size_bytes: int) -> Iterator[Path]:
    """Mount a tmpfs of `size_bytes` on `folder`; skips the test where that is not allowed."""
    folder.mkdir(parents=True, exist_ok=True)
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size_bytes}", "tmpfs", str(folder)],
        capture_output=True,
        text=True,
    )
    if mounted.returncode:
        pytest.skip(f"a small disk needs the right to mount one: {mounted.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)
