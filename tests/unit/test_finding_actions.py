"""What people do about findings: what an action is, its way through the flow, and how the ledger shows it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import pytest

from connectors.ledger import Ledger
from connectors.ledger_reader import LedgerReader
from models.errors import DecodeError
from models.finding_actions import TOPIC, actions_of, encode_action, read_action
from models.frame import Frame
from models.outputs import FindingAction
from models.records import Dead
from models.sharding import Sharder
from models.topics import Router
from pipeline.config import Config
from pipeline.flow import Stages

from ._ledger_records import blob, change

T0_NS = 1_780_000_000_000_000_000
ACK: dict[str, Any] = {"finding_id": "f1", "action": "ack", "by": "ann"}


@pytest.mark.parametrize(
    "body",
    [
        ACK,
        ACK | {"text": "on my way", "site": "depot", "id": "x"},
        ACK | {"action": "assign", "to": "bob"},
        ACK | {"action": "assign", "to": ""},
        ACK | {"action": "snooze", "until": 5},
        ACK | {"action": "unsnooze"},
        ACK | {"action": "comment", "text": "words"},
    ],
)
def test_complete_actions_are_read_and_written_alike(body: dict[str, Any]) -> None:
    assert json.loads(encode_action(read_action(body))) == body


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"action": "ack", "by": "ann"}, "finding_id"),
        (ACK | {"by": ""}, "by"),
        (ACK | {"action": "close"}, "actions are ack, assign, snooze, unsnooze, comment"),
        (ACK | {"action": "assign"}, "assign needs 'to'"),
        (ACK | {"action": "snooze"}, "snooze needs 'until'"),
        (ACK | {"action": "snooze", "until": "tomorrow"}, "until"),
        (ACK | {"action": "snooze", "until": -1}, "until"),
        (ACK | {"action": "comment", "text": ""}, "comment needs 'text'"),
        (ACK | {"to": "bob"}, "ack takes no 'to'"),
        (ACK | {"until": 9}, "ack takes no 'until'"),
        (ACK | {"text": "x" * 4001}, "text"),
        ([], "object"),
    ],
)
def test_incomplete_actions_are_refused_with_what_is_wrong(body: Any, words: str) -> None:
    with pytest.raises(DecodeError, match=words):
        read_action(body)


def _through_the_flow(
    payloads: list[bytes], shards: int = 4, cuts: tuple[int, ...] = ()
) -> dict[str, list[Any]]:
    """Return the actions and dead letters that operator messages lead to, over all shards."""
    config = Config.model_validate({"journal": {"shards": shards}})
    stages = Stages.of(config, None)
    frame = Frame.build([(T0_NS + i * 10**9, TOPIC.encode(), p, 0) for i, p in enumerate(payloads)])
    out: dict[str, list[Any]] = {"finding_actions": [], "dead": []}
    kinds = {"finding_actions": list[FindingAction], "dead": list[Dead]}
    for shard, part in Sharder(Router(config.topic_routes()), shards).split(frame).items():
        run: list[Any] = [
            stages.build_order(shard, None),
            stages.build_detect(shard, None),
            stages.build_bill(shard, None),
        ]
        emit = stages.build_emit(shard, None)
        for low, high in pairwise([0, *cuts, len(part)]):
            batches: list[Any] = [(shard, low, part.slice(low, high))]
            for stage in run:
                batches = [b for batch in batches for b in stage.process(batch)]
            for batch in batches:
                for stream, _, data in emit.process(batch)[0]:
                    if stream in out:
                        out[stream] += msgspec.msgpack.decode(data, type=kinds[stream])
    return out


def test_action_with_a_site_goes_through_its_shard_and_one_without_through_all() -> None:
    with_site, without = encode_action(read_action(ACK | {"site": "depot"})), encode_action(read_action(ACK))
    (one,) = _through_the_flow([with_site])["finding_actions"]
    assert (one.finding_id, one.action, one.by, one.at, one.site) == (
        "f1",
        "ack",
        "ann",
        T0_NS // 10**6,
        "depot",
    )
    every = _through_the_flow([without])["finding_actions"]
    assert len(every) == 4
    assert len(set(every)) == 1  # one record, told four times


def test_the_same_journal_gives_the_same_actions_however_it_is_cut() -> None:
    payloads = [encode_action(read_action(ACK | {"site": "depot", "text": str(i)})) for i in range(6)]
    whole = _through_the_flow(payloads)
    assert [a.text for a in whole["finding_actions"]] == list("012345")
    assert len({a.action_id for a in whole["finding_actions"]}) == 6
    assert _through_the_flow(payloads, cuts=(1, 2, 5)) == whole


def test_message_that_is_no_action_is_a_dead_letter() -> None:
    out = _through_the_flow([b'{"finding_id":"f1","action":"close","by":"ann","site":"depot"}'])
    assert out["finding_actions"] == []
    assert [(d.reason, "actions are ack" in d.detail) for d in out["dead"]] == [("schema", True)]


def test_other_operator_messages_are_no_actions() -> None:
    assert actions_of([]) == []


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[tuple[Ledger, LedgerReader]]:
    url = f"sqlite:///{tmp_path / 'ledger.db'}"
    opened, reader = Ledger(url), LedgerReader(url)
    opened.apply(
        "findings", [(0, blob(change(1), change(1, finding_id="g2", severity="critical", site="mall")))]
    )
    yield opened, reader
    reader.close()
    opened.close()


def _action(at: int, action: str, **fields: Any) -> FindingAction:
    base: dict[str, Any] = {"finding_id": "f1", "action_id": f"{at}-{action}", "site": "depot", "by": "ann"}
    base |= {"to": None, "until": None, "text": None}
    return FindingAction(**(base | {"at": at, "action": action} | fields))


STORY = [
    _action(10, "ack"),
    _action(20, "assign", to="bob", text="yours"),
    _action(30, "snooze", until=5_000),
    _action(40, "comment", text="looks worn"),
    _action(50, "ack", by="carl"),
    _action(60, "comment", text="ordered"),
]


def test_ledger_shows_who_did_what_and_how_it_stands(ledger: tuple[Ledger, LedgerReader]) -> None:
    opened, reader = ledger
    opened.apply("finding_actions", [(0, blob(*STORY))])
    found = reader.finding("f1")
    assert found is not None
    assert [(a["action"], a["by"], a["at"]) for a in found["actions"]] == [
        (a.action, a.by, a.at) for a in STORY
    ]
    assert [c["state"] for c in found["changes"]] == ["raised"]
    names = ("acked_by", "acked_at", "assignee", "snoozed_until", "comments")
    assert [found[name] for name in names] == ["carl", 50, "bob", 5_000, 2]
    other = reader.finding("g")
    assert other is not None
    assert [other[name] for name in names] == [None, None, None, None, 0]


def test_end_of_a_snooze_and_an_assignment_to_nobody_count(ledger: tuple[Ledger, LedgerReader]) -> None:
    opened, reader = ledger
    opened.apply(
        "finding_actions", [(0, blob(*STORY, _action(70, "unsnooze"), _action(80, "assign", to="")))]
    )
    found = reader.finding("f1")
    assert found is not None
    assert (found["snoozed_until"], found["assignee"], found["acked_by"]) == (None, None, "carl")


def test_told_again_in_any_order_by_any_shard_changes_nothing(ledger: tuple[Ledger, LedgerReader]) -> None:
    opened, reader = ledger
    opened.apply("finding_actions", [(0, blob(*STORY))])
    before = reader.finding("f1")
    opened.apply("finding_actions", [(3, blob(*STORY[::-1])), (1, blob(STORY[2]))])
    assert reader.finding("f1") == before


def test_findings_are_chosen_by_how_they_stand(ledger: tuple[Ledger, LedgerReader]) -> None:
    opened, reader = ledger
    opened.apply("finding_actions", [(0, blob(*STORY))])

    def ids(**choice: Any) -> list[str]:
        return [row["finding_id"] for row in reader.chosen_findings(**choice)]

    assert ids() == ["g2", "f1"]
    assert (
        ids(acked=True)
        == ids(assignee="bob")
        == ids(site="depot")
        == ids(snoozed_at_ms=5_000, acked=True)
        == ["f1"]
    )
    assert ids(acked=False) == ids(severity="critical") == ids(snoozed_at_ms=4_999) == ["g2"]
    assert ids(state="cleared") == ids(code="offline") == ids(assignee="ann") == []
    opened.apply("findings", [(0, blob(change(2), change(3)))])
    assert ids(state="cleared") == ["f1"]
    assert sorted(ids(state="all")) == ["f1", "g2"]


def test_shortened_id_must_be_of_one_finding(ledger: tuple[Ledger, LedgerReader]) -> None:
    opened, reader = ledger
    opened.apply("findings", [(0, blob(change(1, finding_id="f12")))])
    assert reader.finding("f") is None
    assert reader.finding("") is None
    assert reader.finding("%") is None
    for whole in ("f1", "f12"):
        assert (reader.finding(whole) or {})["finding_id"] == whole
