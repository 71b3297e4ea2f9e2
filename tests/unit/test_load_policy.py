"""Load management in the control stage: messages in, SetChargingProfile out, however the stream is cut."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from models.held_back import TOPIC as HELD
from pipeline import config
from pipeline.control_plan import control_plan

from .test_control import T0, Bench, Message, answer, message, tick

SITE = """
[[load.sites]]
site = "depot"
limit_a = 40.0
commissioned = true
meter = "main/1"
other_worst_a = 30.0
interval_s = 5.0
ramp_a_per_s = 10.0
"""


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    (tmp_path / "c.toml").write_text(SITE)
    return Bench(12, control_plan(config.load(tmp_path / "c.toml", {})))


def born(at_ms: int, node: str) -> Message:
    evse = {"evse": 1, "u_n_v": 230, "phases": 3, "conns": [{"conn": 1, "type": "IEC_62196_T2", "max_a": 32}]}
    return message(
        at_ms, f"depot/{node}/up/conn", v=1, online=True, boot=1, cid=1, hb_s=60, sample_s=5, evses=[evse]
    )


class Numbers(Counter[str]):
    """Sequence numbers by node."""

    def next(self, node: str) -> int:
        self[node] += 1
        return self[node]


def reading(at_ms: int, node: str, seq: int, *amps: float) -> Message:
    channels = ["Current.Import@L1", "Current.Import@L2", "Current.Import@L3"][: len(amps)]
    series = {"evse": 1, "conn": 1, "t0": T0 + at_ms, "ch": channels, "rows": [[0, *amps]]}
    return message(at_ms, f"depot/{node}/up/meter", v=1, boot=1, seq=seq, series=[series])


def transaction(at_ms: int, node: str, seq: int, kind: str, no: int) -> Message:
    item = {"evse": 1, "conn": 1, "t": T0 + at_ms, "txId": f"{node}-1", "seqNo": no, "eventType": kind}
    return message(at_ms, f"depot/{node}/up/tx", v=1, boot=1, seq=seq, items=[item])


def minute(numbers: Numbers) -> Iterator[Message]:
    yield from (born(0, "s1"), born(0, "s2"), born(0, "main"), tick(1000))
    yield reading(1100, "main", numbers.next("main"), 10.0, 10.0, 10.0)
    yield transaction(1200, "s1", numbers.next("s1"), "Started", 0)
    for second in range(2, 63):
        at = second * 1000
        if second % 5 == 0:
            yield reading(at - 300, "main", numbers.next("main"), 10.0, 10.0, 10.0)
            yield reading(at - 200, "s1", numbers.next("s1"), 6.0, 6.0, 6.0)
        yield tick(at)


def morning() -> list[Message]:
    return list(minute(Numbers()))


def sent_limits(bench: Bench) -> list[tuple[str, float]]:
    return [
        (
            row.station,
            row.body["chargingProfile"]["chargingSchedule"][0]["chargingSchedulePeriod"][0]["limit"],
        )
        for row in bench.rows
        if row.event == "asked"
    ]


def test_a_vehicle_gets_a_profile_that_runs_out(bench: Bench) -> None:
    bench.feed(*morning()[:12])
    row = next(row for row in bench.rows if row.event == "asked")
    assert (row.command, row.station, row.evse, row.by) == ("SetChargingProfile", "s1", 1, "load")
    profile = row.body["chargingProfile"]
    assert (profile["chargingProfilePurpose"], profile["transactionId"]) == ("TxProfile", "s1-1")
    assert "validTo" in profile
    published = bench.sent()[0]
    assert published["cmdId"] == row.cmd_id


def test_accepted_limits_rise_and_are_told_beside_the_energy(bench: Bench) -> None:
    numbers, answered = Numbers(), 0
    for one in minute(numbers):
        bench.feed(one)
        for sent in bench.sent()[answered:]:
            answered += 1
            bench.feed(answer(one[0] // 1_000_000 - T0 + 50, sent["cmdId"], seq=numbers.next("s1")))
    assert sent_limits(bench)[0] == ("s1", 6.0)
    assert max(limit for _, limit in sent_limits(bench)) == 30.0  # 40 A less 10 A of other load
    limits = [(row.limit_a, row.cause) for row in bench.reported["limits"]]
    assert limits[0] == (0.0, "fallback")
    assert (30.0, "site") in limits
    ended = transaction(63_100, "s1", numbers.next("s1"), "Ended", 9)
    bench.feed(ended, *[tick(63_000 + 1000 * i) for i in range(1, 5)])
    assert bench.reported["limits"][-1].limit_a is None
    held = [json.loads(p.payload) for p in bench.published if p.topic == HELD]
    assert [(word["station"], word["evse"], word["held"]) for word in held] == [
        ("s1", 1, True), ("s1", 1, False),
    ]  # fmt: skip
    first = bench.reported["loads"][0]
    assert (first.site, first.other_a, first.limit_a) == ("depot", (10.0,) * 3, (40.0,) * 3)


@pytest.mark.parametrize("cuts", [(3,), (5, 20, 21), tuple(range(1, 70, 7))])
def test_cuts_and_restarts_change_nothing(bench: Bench, cuts: tuple[int, ...]) -> None:
    whole, parts = bench, Bench(12, bench.config)
    messages = morning()
    whole.feed(*messages)
    for start, end in zip((0, *cuts), (*cuts, len(messages)), strict=True):
        parts.feed(*messages[start:end])
        parts.restart()
    assert parts.rows == whole.rows
    assert parts.published == whole.published
    assert parts.reported == whole.reported
    assert len(whole.rows) > 1


def test_an_operator_lowers_the_site_and_nonsense_does_no_harm(bench: Bench) -> None:
    def wish(at_ms: int, **body: Any) -> Message:
        return message(at_ms, "_op/load", site="depot", by="anna", **body)

    bench.feed(*morning()[:12], wish(12_100, limit_a="many"), wish(12_150, station=7), wish(12_160, evse=[]))
    bench.feed(wish(12_200, limit_a=5.0), *[tick(13_000 + 1000 * i) for i in range(12)])
    assert sent_limits(bench)[-1] == ("s1", 0.0)


def test_sites_that_are_not_managed_are_left_alone() -> None:
    bench = Bench(12, control_plan(config.load(None, {})))
    bench.feed(*morning())
    assert not bench.rows
    assert "loads" not in bench.reported
