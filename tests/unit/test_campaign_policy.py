"""Campaigns in the flow: operator messages and what shards tell in, requests for commands and rows out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from connectors.campaign_reader import CampaignReader
from connectors.ledger import Ledger
from models.campaign_policy import CampaignPolicy
from models.campaign_rows import CampaignStationRow
from models.command_request import read_request
from pipeline.config import Config
from pipeline.control_plan import control_plan

from .campaigning import NEW, OLD, plan
from .test_control import T0, Bench, Message, birth, message, tick

#: Plans here name addresses on this host.
OURS = Config.model_validate({"firmware": {"foreign_hosts": ["fw.example"]}})
CONTROL = OURS.journal.shards


def told(at_ms: int, kind: str, **body: Any) -> Message:
    known = {"site": "depot", "station": "s1", "shard": 3, "order": at_ms, "time_ms": T0 + at_ms}
    return message(at_ms, f"_ctl/{kind}", **(known | body))


def born(at_ms: int, fw: str = OLD, **more: Any) -> Message:
    known = {
        "online": True,
        "vendor": "Volta",
        "model": "V2",
        "fw": fw,
        "boot": 1,
        "node": "s1",
        "by": "birth",
    }
    return told(at_ms, "station", **(known | more))


def op(at_ms: int, **body: Any) -> Message:
    return message(at_ms, "_op/campaign", **body)


def story() -> list[Message]:
    return [
        born(0),
        born(10, station="s2"),
        op(1000, **plan()),
        op(1100, id="c1", action="approve", by="bob"),
        op(1200, id="c1", action="start", by="ann"),
        *(tick(s * 1000) for s in range(2, 13)),
        told(13_000, "result", cause="campaign/c1/1", state="accepted", status="Accepted", sent_ms=T0),
        told(14_000, "fw", request_id=None, status="Installing", station_ms=T0 + 14_000),
        born(15_000, NEW, boot=2),
        born(16_000, NEW, boot=2, station="s2"),
        *(tick(s * 1000) for s in range(17, 25)),
    ]


def requests(bench: Bench) -> list[dict[str, Any]]:
    return [json.loads(p.payload) for p in bench.published if p.topic == "evt/v1/_op/command"]


def test_a_campaign_goes_through_the_control_shard() -> None:
    bench = Bench(CONTROL, control_plan(OURS))
    bench.feed(*story())
    asked = requests(bench)
    assert sorted(body["station"] for body in asked) == ["s1", "s2"]
    assert {body["id"] for body in asked} == {"campaign/c1/1"}
    request = read_request("command", asked[0])
    assert request.ask(T0).cause == "campaign/c1/1"  # type: ignore[union-attr]  # it is no cancel request
    assert asked[0]["command"] == "UpdateFirmware"
    events = [row.event for row in bench.reported["campaigns"]]
    assert bench.reported["campaign_progress"][-1].counts == {"succeeded": 2}
    assert events == ["create", "approve", "start", "wave", "wave_done", "drained"]
    assert bench.reported["campaigns"][-1].state == "finished"
    assert bench.dead == []


@pytest.mark.parametrize("size", [1, 3, 7])
def test_it_does_not_matter_how_the_journal_is_cut_and_when_it_is_restarted(size: int) -> None:
    whole = Bench(CONTROL, control_plan(OURS)).feed(*story())
    cut = Bench(CONTROL, control_plan(OURS))
    messages = story()
    for start in range(0, len(messages), size):
        cut.feed(*messages[start : start + size])
        cut.restart()
    assert cut.reported == whole.reported
    assert requests(cut) == requests(whole)


def test_what_the_file_server_put_off_and_what_makes_no_sense() -> None:
    bench = Bench(CONTROL, control_plan(OURS))
    bench.feed(*story()[:16])
    bench.feed(
        message(
            13_000, "_op/firmware", action="shed", site="depot", station="s1", retry_after_s=60, by="server"
        ),
        told(13_500, "fw", status="DownloadFailed", request_id=None),
        told(13_600, "fw", status=7),
        op(13_700, id="c9", action="start", by="ann"),
    )
    rows = [row for row in bench.reported["campaign_stations"] if row.station == "s1"]
    assert (rows[-1].state, rows[-1].failed) == ("due", 0)
    assert rows[-1].reason == "DownloadFailed: put off by the file server"
    assert bench.reported["campaigns"][-1].event == "refused"


def test_site_shards_hear_nothing_of_campaigns() -> None:
    assert not any(p.name == "campaigns" and not p.control for p in control_plan(OURS).policies)


def test_the_ledger_keeps_campaigns_with_history_and_funnel(tmp_path: Path) -> None:
    bench = Bench(CONTROL, control_plan(OURS)).feed(*story())
    url = f"sqlite:///{tmp_path / 'ledger.db'}"
    ledger, reader = Ledger(url), CampaignReader(url)
    for _ in range(2):  # twice says the same
        for stream in ("campaigns", "campaign_stations"):
            rows = bench.reported[stream]
            ledger.apply(stream, [(CONTROL, msgspec.msgpack.encode(rows))])
    (found,) = reader.campaigns()
    assert (found["campaign"], found["state"], found["made_by"]) == ("c1", "finished", "ann")
    assert found["funnel"]["all"] == {"succeeded": 2}
    assert found["plan"]["image"]["version"] == NEW
    assert "signature" not in found["plan"]["image"]
    one = reader.campaign("c1")
    assert one is not None
    assert [change["change"] for change in one["changes"]] == [1, 2, 3, 4, 5, 6]
    assert one["funnel"]["waves"] == [{"wave": 0, "states": {"succeeded": 2}}]
    stations = reader.campaign_stations("c1", search="s1")
    assert [(row["station"], row["state"], row["fw"]) for row in stations] == [("s1", "succeeded", NEW)]
    assert [row["station"] for row in reader.every_station("c1")] == ["s1", "s2"]
    assert reader.campaign("c2") is None
    older = next(row for row in bench.reported["campaign_stations"] if row.station == "s1")
    assert isinstance(older, CampaignStationRow)
    ledger.apply("campaign_stations", [(CONTROL, msgspec.msgpack.encode([older]))])
    assert reader.campaign_stations("c1", search="s1")[0]["state"] == "succeeded"
    reader.close()
    ledger.close()


def test_what_the_site_shards_tell_is_understood() -> None:
    """The real forwarder and digester of a site shard, into the book: no field by another name."""
    site = Bench(0)
    hour = 3_600_000
    first = hour - T0 % hour  # the next whole hour, as an offset
    site.feed(birth(0, vendor="Volta", model="V2", fw=OLD))
    free = {"evse": 1, "conn": 1, "t": T0 + 10, "status": "Available"}
    site.feed(message(10, "depot/s1/up/status", v=1, boot=1, seq=1, items=[free]))
    site.feed(*(tick(first + i * hour + 60_000) for i in range(3)))
    bench = Bench(CONTROL, control_plan(OURS))
    for number, published in enumerate(p for p in site.published if "/_ctl/" in p.topic):
        bench.feed((T0 * 1_000_000 + number, published.topic.encode(), published.payload, 0))
    (book,) = [p.book for _, p in bench.control._policies if isinstance(p, CampaignPolicy)]
    row = book.fleet.find("depot", "s1")
    assert book.fleet.identity(row) == ("Volta", "V2", OLD)
    assert book.fleet.online[row] == 1
    assert book.fleet.hour[row] == (T0 + first) // hour + 1
