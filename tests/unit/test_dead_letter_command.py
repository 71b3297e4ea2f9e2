"""``chargestream dead-letter``, and what becomes of a message that the broker refuses."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest

from connectors.mqtt import Refusal
from connectors.outbox import DeadLetter
from models.outputs import Publish
from pipeline.cli import main
from pipeline.egress import dead_letter_path
from pipeline.egress_sinks import MqttSink, Record

from ._ledger_records import blob


def test_dead_letter_commands_name_what_they_need(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["dead-letter", "list", "--data", str(tmp_path)]) == 2
    assert "there is no dead-letter at" in capsys.readouterr().err
    with DeadLetter(dead_letter_path(tmp_path)) as box:
        box.add("mqtt", "publish", 4, blob(Publish(topic="t", payload=b"p")), "packet too large", 5)
        box.add("ledger", "late", 5, b"\xc1", "cannot be read", 6)
        box.add("influx", "points", 6, b"x" * 500, "400: no", 7)
    assert main(["dead-letter", "drop", "--data", str(tmp_path)]) == 2
    assert "say which letters, with --id, --consumer or --all" in capsys.readouterr().err
    assert main(["dead-letter", "list", "--data", str(tmp_path)]) == 0
    assert "xxx ..." in capsys.readouterr().out
    assert main(["dead-letter", "list", "--json", "--id", "1", "2", "--data", str(tmp_path)]) == 0
    first, second = map(json.loads, capsys.readouterr().out.splitlines())
    assert first["blob"][0]["topic"] == "t"
    assert (second["reason"], second["blob"]) == ("cannot be read", "b'\\xc1'")
    assert main(["dead-letter", "drop", "--id", "2", "--data", str(tmp_path)]) == 0
    assert main(["dead-letter", "drop", "--all", "--data", str(tmp_path)]) == 0
    assert capsys.readouterr().out == "1 dropped\n2 dropped\n"
    assert main(["dead-letter", "list", "--data", str(tmp_path)]) == 0
    assert capsys.readouterr().out == "no dead letters\n"


def test_a_publish_that_the_broker_refuses_is_kept_alone() -> None:
    class Picky:
        def connect(self) -> None:
            pass

        def publish(self, batch: Sequence[Publish]) -> list[Any]:
            return [
                Refusal(i, "packet too large") for i, message in enumerate(batch) if len(message.payload) > 3
            ]

        def close(self) -> None:
            pass

    good, large = Publish(topic="a", payload=b"ok"), Publish(topic="b", payload=b"large")
    sink = MqttSink(Picky(), Path("none"))
    found = sink.deliver(
        "publish", [Record(7, 0, blob(good, large)), Record(8, 0, b"\xc1"), Record(9, 0, blob(large))]
    )
    assert [(x.seq, x.reason.split(":")[0]) for x in found] == [
        (8, "cannot be read"), (7, "packet too large"), (9, "packet too large"),
    ]  # fmt: skip
    assert msgspec.msgpack.decode(found[1].blob, type=list[Publish]) == [large]
