"""Campaigns: whom they ask and when, what counts as done or failed, and what people may do."""

from __future__ import annotations

import importlib
from itertools import product
from typing import Any

import msgspec
import pytest

from models._campaign_members import request_id_of
from models._campaign_states import CAMPAIGN, ENDED, FIRMWARE, MEMBER, TERMINAL, Event, Member, State, Step
from models.campaigns import CampaignBook
from models.errors import DecodeError, SnapshotError

from .campaigning import HOUR, MINUTE, NEW, OLD, T0, Bench


def test_the_tables_know_every_pair_and_the_end_is_the_end() -> None:
    assert set(CAMPAIGN) == set(product(State, Event))
    assert set(MEMBER) == set(product(Member, Step))
    for state, event in product(ENDED, Event):
        assert CAMPAIGN[state, event] in (None, State.ROLLING_BACK)
    for member, step in product(TERMINAL, Step):
        if MEMBER[member, step] is not None:
            again = (member, step) in ((Member.SKIPPED, Step.FIT), (Member.FAILED, Step.PUT_OFF))
            assert step in (Step.BORN_NEW, Step.REGRESS) or member is Member.UNREACHABLE or again


def test_every_firmware_status_of_ocpp_has_a_meaning() -> None:
    old = importlib.import_module("ocpp.v16.enums").FirmwareStatus
    new = importlib.import_module("ocpp.v201.enums").FirmwareStatusEnumType
    assert {str(status) for status in (*old, *new)} == set(FIRMWARE)


@pytest.mark.parametrize("restarts", [False, True])
def test_a_fleet_is_updated(restarts: bool) -> None:
    bench = Bench(10, restarts)
    bench.go()
    assert sorted(bench.asked()) == list(range(10))
    ask = bench.asks[0]
    assert (ask.command, ask.by, ask.expires_ms - ask.at_ms) == ("UpdateFirmware", "campaign:c1", 300_000)
    assert ask.cause == "campaign/c1/1"
    assert ask.body["firmware"]["location"] == f"https://fw.example/{ask.site}/{ask.station}"
    assert ask.body["requestId"] == request_id_of("c1", ask.site, ask.station, 1)
    for number in range(10):
        bench.update(number)
    bench.go()
    assert bench.state == "finished"
    assert bench.states() == {"succeeded": 10}
    assert len(bench.asks) == 10


def test_the_birth_decides_in_whichever_order_it_comes() -> None:
    bench = Bench(3)
    bench.go()
    for number in range(3):
        bench.result(number)
    bench.status(0, "Installed")
    assert bench.row(0).state == "installed"
    bench.birth(0, NEW)
    bench.birth(1, NEW)
    bench.status(1, "Installed")
    bench.status(2, "Installed")
    assert [bench.row(n).state for n in range(3)] == ["succeeded", "succeeded", "installed"]
    bench.go(3 * HOUR)
    assert bench.row(2).attempt == 2  # Installed alone is no success: its time was over, it is asked again
    assert any("no birth with 2.0.0" in row.reason for row in bench.log)


def test_timeout_is_failure_and_a_bricked_station_is_not_asked_again() -> None:
    bench = Bench(2, retries=1)
    bench.go()
    bench.result(0)
    bench.status(0, "Installing")
    bench.seen("station", 0, online=False)
    bench.go(2 * HOUR + MINUTE)
    assert bench.row(0).state == "timed_out"
    assert bench.row(1).state == "due"  # silent, but there: once more
    bench.go(20 * MINUTE)
    bench.go(2 * HOUR + MINUTE)
    assert (bench.row(1).state, bench.row(1).attempt, bench.row(1).failed) == ("timed_out", 2, 2)


def test_a_late_birth_makes_good_what_was_given_up() -> None:
    bench = Bench(2, retries=0)
    bench.go()
    bench.go(2 * HOUR + MINUTE)
    assert bench.states() == {"timed_out": 2}
    bench.birth(0, NEW)
    assert bench.row(0).state == "succeeded"
    bench.birth(0, OLD)
    assert bench.row(0).state == "failed"
    assert bench.row(0).reason == "its birth reports 1.4.0 again"


def test_retries_wait_longer_each_time_and_end() -> None:
    bench = Bench(1, retries=2, retry_wait_s=600)
    asked = []
    for _ in range(400):
        before = len(bench.asks)
        bench.go()
        if len(bench.asks) > before:
            asked.append((bench.now - T0) // 1000)
            bench.status(0, "InstallationFailed")
    assert asked == [10, 610, 1810]
    assert bench.row(0).state == "failed"
    assert bench.row(0).failed == 3


@pytest.mark.parametrize("told_first", ["fw", "shed"])
def test_what_the_file_server_puts_off_costs_no_retry(told_first: str) -> None:
    bench = Bench(1, retries=0 if told_first == "shed" else 1, retry_wait_s=60)
    for _ in range(5):
        bench.go(21 * MINUTE)
        bench.result(0)
        if told_first == "shed":
            bench.seen("shed", 0, retry_after_s=1200)
            bench.status(0, "DownloadFailed")
        else:
            bench.status(0, "DownloadFailed")
            bench.seen("shed", 0, retry_after_s=1200)
        assert bench.row(0).state == "due"
        bench.go(15 * MINUTE)
        assert bench.row(0).state == "due"  # the server said when
    assert bench.row(0).attempt == 5
    bench.go(10 * MINUTE)
    bench.update(0)
    assert bench.row(0).state == "succeeded"


def test_a_station_that_charges_is_left_alone() -> None:
    bench = Bench(2)
    bench.seen("charging", 0, charging=True)
    bench.go(HOUR)
    assert bench.asked() == [1]
    bench.result(1, "rejected", "Rejected", answer={"statusInfo": {"reasonCode": "TxInProgress"}})
    assert (bench.row(1).state, bench.row(1).failed) == ("due", 0)
    bench.seen("charging", 0, charging=False, order=1)  # older than what is known
    bench.go()
    assert bench.asked() == [1]
    bench.seen("charging", 0, charging=False)
    bench.go()
    assert bench.asked() == [1, 0]


def test_a_request_that_never_left_is_no_failure_and_one_that_was_refused_is() -> None:
    bench = Bench(3, retries=0)
    bench.go()
    bench.result(0, "expired", "", sent_ms=None, reason="the station was away")
    bench.result(1, "rejected", "Rejected")
    bench.result(2, "rejected", "InvalidCertificate")
    assert [bench.row(n).state for n in range(3)] == ["due", "rejected", "rejected"]
    assert bench.row(0).failed == 0
    assert "never sent" in bench.row(0).reason
    bench.result(1, "accepted")
    assert bench.row(1).state == "rejected"  # the first answer counted


def test_no_second_request_while_the_first_may_be_at_work() -> None:
    bench = Bench(1)
    bench.go()
    bench.result(0, "expired", "")  # sent, not answered
    bench.go(HOUR)
    assert len(bench.asks) == 1
    bench.status(0, "Installing")
    assert bench.row(0).state == "installing"


def test_statuses_of_an_older_request_say_nothing_of_this_one() -> None:
    bench = Bench(1, retry_wait_s=600)
    bench.go()
    first = bench.row(0).request_id
    assert first is not None
    bench.status(0, "DownloadFailed")
    bench.go(11 * MINUTE)
    assert bench.row(0).attempt == 2
    bench.status(0, "InstallationFailed", first)
    assert bench.row(0).state == "requested"
    bench.seen("fw", 0, status="DownloadFailed", request_id=None, time_ms=T0 + 20_000)  # 1.6, of before
    assert bench.row(0).state == "requested"
    bench.seen("fw", 0, status="Downloading", request_id=None)
    assert bench.row(0).state == "downloading"
    bench.seen("fw", 0, status="Idle", request_id=None)
    assert bench.row(0).state == "downloading"


def test_back_on_the_old_version_is_a_failure_after_a_grace() -> None:
    bench = Bench(1, retries=0)
    bench.go()
    bench.result(0)
    bench.birth(0, OLD, boot=2)  # while it downloads: power was away
    bench.go(30 * MINUTE)
    assert bench.row(0).state == "accepted"
    bench.status(0, "Installing")
    bench.birth(0, OLD, boot=3)
    bench.go(9 * MINUTE)
    assert bench.row(0).state == "installing"
    bench.go(2 * MINUTE)
    assert bench.row(0).state == "timed_out"


def test_waves_by_count_percent_and_pace() -> None:
    bench = Bench(20, waves=[{"count": 1}, {"percent": 25.0}])
    sizes = []
    for _ in range(3):
        before = len(bench.asks)
        bench.go()
        fresh = bench.asked()[before:]
        sizes.append(len(fresh))
        for number in fresh:
            bench.update(number)
    assert sizes == [1, 4, 15]
    bench = Bench(20, pace={"first": 2, "factor": 3.0})
    sizes = []
    while sum(sizes) < 20:
        before = len(bench.asks)
        bench.go()
        sizes.append(len(bench.asks) - before)
        for number in bench.asked()[before:]:
            bench.update(number)
    assert sizes == [2, 6, 12]


def test_the_next_wave_waits_for_the_success_threshold() -> None:
    bench = Bench(20, waves=[{"count": 10}], success=0.8, error=0.5)
    bench.go()
    first = bench.asked()
    for number in first[:7]:
        bench.update(number)
    bench.go(MINUTE)
    assert len(bench.asks) == 10
    bench.update(first[7])
    bench.go(MINUTE)
    assert len(bench.asks) == 20


def test_too_many_failures_pause_and_a_person_lets_it_go_on() -> None:
    bench = Bench(20, waves=[{"count": 10}], retries=0, error=0.2)
    bench.go()
    first = bench.asked()
    for number in first[:2]:
        bench.status(number, "InstallationFailed")
    bench.go()
    assert bench.state == "running"  # two of two, and four is the least number
    for number in first[2:4]:
        bench.status(number, "InvalidSignature")
    bench.go()
    assert bench.state == "paused"
    assert bench.campaigns[-1].text.startswith("4 of 4 attempts of the wave failed, more than 20.0%")
    for number in first[4:]:
        bench.update(number)
    bench.go(HOUR)
    assert len(bench.asks) == 10  # nothing while it is paused
    bench.operator({"id": "c1", "action": "resume", "by": "bob", "text": "known bad batch"})
    bench.go()
    assert len(bench.asks) == 20


def test_a_wave_that_ends_below_its_threshold_pauses() -> None:
    bench = Bench(10, waves=[{"count": 5}], retries=0, error=1.0)
    bench.go()
    first = bench.asked()
    bench.status(first[0], "InstallationFailed")
    for number in first[1:]:
        bench.update(number)
    bench.go()
    assert bench.state == "paused"
    assert bench.campaigns[-1].text == "4 of 5 stations of wave 1 run 2.0.0, 90.0% wanted"


def test_stations_that_are_never_there_are_unreachable() -> None:
    bench = Bench(10, waves=[{"percent": 100.0}], wave_timeout_s=3600, success=0.5)
    bench.seen("station", 3, online=False)
    bench.go()
    assert 3 not in bench.asked()
    for number in bench.asked():
        bench.update(number)
    bench.go(HOUR + MINUTE)
    assert bench.row(3).state == "unreachable"
    assert bench.state == "finished"
    bench.birth(3, NEW)
    assert bench.row(3).state == "skipped"  # somebody went there


def test_pace_in_a_minute_and_under_way() -> None:
    bench = Bench(40, per_minute=6, max_in_flight=5)
    for _ in range(3):
        bench.go()
    assert len(bench.asks) == 3
    bench.go(HOUR)
    assert len(bench.asks) == 5


def test_every_step_is_a_row_and_rows_count_up() -> None:
    bench = Bench(2)
    bench.go()
    bench.update(0)
    told = [row for row in bench.log if row.station == "cs0"]
    assert [row.change for row in told] == list(range(1, len(told) + 1))
    assert [row.state for row in told] == [
        "waiting", "due", "requested", "accepted", "downloading", "downloaded", "installing", "succeeded",
    ]  # fmt: skip
    assert told[-1].fw_before == OLD
    assert told[-1].fw == NEW
    assert [row.change for row in bench.campaigns] == list(range(1, len(bench.campaigns) + 1))
    assert msgspec.convert(bench.campaigns[0].plan, dict[str, Any])["image"]["version"] == NEW


@pytest.mark.parametrize("piece", [1_000, 7_000, 61_000])
def test_time_may_pass_in_any_pieces(piece: int) -> None:
    def story(ms: int) -> list[Any]:
        bench = Bench(
            12, waves=[{"count": 3}], retry_wait_s=60, per_minute=12, retries=1, error=0.9, success=0.5
        )
        for number in range(4):
            for _ in range(5 * MINUTE // ms):
                bench.go(ms)
            bench.now = T0 + (number + 1) * 5 * MINUTE
            bench.go(0)
            for asked in sorted(set(bench.asked())):
                if asked % 3 == 2:
                    bench.status(asked, "DownloadFailed")
                elif asked % 3:
                    bench.update(asked)
        bench.go(3 * HOUR)
        return [bench.log, bench.campaigns, bench.asks, bench.progress]

    whole = story(5 * MINUTE)
    assert len(whole[2]) > 12
    assert story(piece) == whole


def test_words_that_are_not_what_they_should_be() -> None:
    book = CampaignBook()
    with pytest.raises(DecodeError, match="_ctl/fw"):
        book.seen("fw", {"site": "a", "station": "b"}, T0)
    book.seen("finding", {"anything": 1}, T0)
    with pytest.raises(SnapshotError, match="version 9"):
        CampaignBook({"version": 9})
