"""Each folder ``dialects/<dialect>/<case>`` is a test: a message log, its routes, and what must come out.

``UPDATE_GOLDEN=1`` writes ``expected.jsonl`` (the calls of each message) and ``errors.txt`` (the dead ones)
anew; look at the difference before keeping it. With ``CI=true`` that is refused.
"""

from __future__ import annotations

import os
import tomllib
from pathlib import Path
from typing import Any

import msgspec
import pytest

from connectors.msglog import read_frames
from models import plugins
from models.errors import DecodeError
from models.topics import Route, Router
from pipeline.dialects import Message
from tests.unit.dialect_sink import CollectingSink, topic_of

FOLDER = Path(__file__).parent / "dialects"
CASES = sorted(path.parent for path in FOLDER.glob("*/*/input.jsonl"))


def run(case: Path) -> tuple[list[dict[str, Any]], list[str]]:
    """Return the calls of every message and the text of every error; state is restored at each step."""
    config = tomllib.loads((case / "config.toml").read_text())
    router = Router([Route(**route) for route in config["routes"]])
    options: dict[str, dict[str, Any]] = config.get("dialects", {})
    module = plugins.load("pipeline.dialects", case.parent.name)
    own = options.get(case.parent.name, {})
    dialect = module.build(own)
    outcomes: list[dict[str, Any]] = []
    errors: list[str] = []
    for frame in read_frames(case / "input.jsonl"):
        for i in range(len(frame)):
            sink = CollectingSink()
            topic = topic_of(router, frame.topic(i).decode())
            n = len(outcomes) + 1
            try:
                dialect.decode(Message(topic, frame.payload(i), int(frame.recv_ns[i]), False), sink)
                outcomes.append({"n": n, "calls": sink.readable()})
            except DecodeError as error:
                outcomes.append({"n": n, "dead": error.reason})
                errors.append(f"{n}: {error}")
            saved = msgspec.msgpack.decode(msgspec.msgpack.encode(dialect.snapshot()))
            dialect = module.build(own, saved)
    return outcomes, errors


@pytest.mark.parametrize("case", CASES, ids=lambda path: f"{path.parent.name}-{path.name}")
def test_golden(case: Path) -> None:
    outcomes, errors = run(case)
    lines = "".join(msgspec.json.encode(o).decode() + "\n" for o in outcomes)
    text = "".join(f"{e}\n" for e in errors)
    if os.environ.get("UPDATE_GOLDEN") == "1":
        if os.environ.get("CI") == "true":
            pytest.fail("UPDATE_GOLDEN is refused where CI=true: golden files are written by a person")
        (case / "expected.jsonl").write_text(lines)
        (case / "errors.txt").write_text(text)
    assert text == (case / "errors.txt").read_text()
    assert lines == (case / "expected.jsonl").read_text()


def test_every_dialect_has_cases() -> None:
    have = {case.parent.name for case in CASES}
    assert have == set(plugins.names("pipeline.dialects"))
    assert len(CASES) >= 10
