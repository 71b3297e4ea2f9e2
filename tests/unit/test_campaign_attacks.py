"""What must not be taken for what it is not: cars, late words, withdrawn images, other hands."""

from __future__ import annotations

import msgspec
import pytest

from models._campaign_inputs import ResultSeen, read_seen
from models.campaign_policy import cancel_of
from models.command_check import check_command, check_schema
from models.command_types import command_id
from models.commands16 import to_16

from .campaigning import HOUR, MINUTE, NEW, Bench, image, plan
from .test_control import T0 as NOW
from .test_control import Bench as Control
from .test_control import birth, message, update

NEWER = "2.1.0"


def test_a_newer_version_by_another_hand_is_no_failure() -> None:
    bench = Bench(2)
    bench.operator(plan(id="other", image=image(NEWER), target={"stations": ["s0/cs0"]}))
    bench.go()
    bench.update(0)
    for action, by in (("approve", "bob"), ("start", "ann")):
        bench.operator({"id": "other", "action": action, "by": by})
    bench.go()
    bench.birth(0, NEWER, boot=3)
    bench.birth(0, NEWER, boot=4)  # the first campaign still runs when the second has done
    assert bench.book.runs["other"].members.counts() == {"succeeded": 1}
    assert bench.states() == {"succeeded": 1, "requested": 1}
    bench.birth(0, "1.9.0", boot=5)
    assert bench.states()["failed"] == 1


def test_a_station_that_was_left_out_joins_when_its_version_fits() -> None:
    bench = Bench(0)
    for number, fw in enumerate(("1.0.0", NEW, "3.0.0", "1.5.0")):
        bench.birth(number, fw)
    bench.started(image=image(NEW, from_versions=[">=1.4"]))
    bench.go()
    assert bench.asked() == [3]
    assert bench.states() == {"skipped": 3, "requested": 1}
    bench.birth(0, "1.4.0", boot=2)  # the version between was installed by other means
    bench.birth(1, "1.9.9", boot=2)  # reset to what the factory shipped
    bench.birth(2, "3.0.1", boot=2)
    bench.go()
    assert bench.asked() == [3, 0, 1] or bench.asked() == [3, 1, 0]
    assert bench.states() == {"skipped": 1, "requested": 3}


def test_one_that_fits_late_waits_for_its_wave() -> None:
    bench = Bench(0)
    for number, fw in enumerate(("1.0.0", "1.5.0", "1.5.0", "1.5.0")):
        bench.birth(number, fw)
    bench.started(image=image(NEW, from_versions=[">=1.4"]), waves=[{"count": 1}])
    bench.go()
    bench.birth(0, "1.4.0", boot=2)
    bench.go()
    assert len(bench.asks) == 1
    assert bench.row(0).state == "waiting"
    bench.update(bench.asked()[0])
    bench.go()
    assert len(bench.asks) == 4


def test_a_car_puts_the_end_of_an_attempt_off() -> None:
    bench = Bench(2, retries=0)
    bench.go()
    for number in range(2):
        bench.result(number)
        bench.seen("charging", number, charging=True)  # after the request: it installs when the car has done
        bench.status(number, "Downloaded")
    bench.status(0, "InstallScheduled")
    bench.go(9 * HOUR)
    assert bench.states() == {"downloaded": 2}
    bench.seen("station", 1, online=False)  # gone: no car is an excuse for that
    bench.go(2 * HOUR + MINUTE)
    assert bench.row(1).state == "timed_out"
    bench.seen("charging", 0, charging=False)
    bench.go(HOUR + 50 * MINUTE)
    assert bench.row(0).state == "downloaded"
    bench.go(20 * MINUTE)
    assert bench.row(0).state == "timed_out"


def test_a_car_that_never_leaves_holds_no_campaign_open() -> None:
    bench = Bench(1, retries=0, wave_timeout_s=86_400)
    bench.go()
    bench.result(0)
    bench.seen("charging", 0, charging=True)
    bench.go(27 * HOUR)
    assert bench.row(0).state == "timed_out"


def test_a_late_failure_without_request_id_is_not_that_of_the_new_update() -> None:
    """1.6: the station kept what it had to say of an older update until it was back."""
    bench = Bench(1, retries=0)
    bench.go()
    for status in ("InstallationFailed", "DownloadFailed"):
        bench.seen("fw", 0, status=status, request_id=None)
        assert bench.row(0).state == "requested"
    bench.result(0)
    bench.seen("fw", 0, status="InstallationFailed", request_id=None)
    assert bench.row(0).state == "accepted"
    for status in ("Downloading", "Downloaded", "Installing"):
        bench.seen("fw", 0, status=status, request_id=None)
    bench.seen("fw", 0, status="InstallationFailed", request_id=None)
    assert (bench.row(0).state, bench.row(0).failed) == ("failed", 1)


@pytest.mark.parametrize("restarts", [False, True])
def test_the_file_servers_word_may_come_after_the_last_failure(restarts: bool) -> None:
    bench = Bench(1, restarts, retries=0, retry_wait_s=60)
    bench.go()
    bench.result(0)
    bench.status(0, "DownloadFailed")
    assert bench.row(0).state == "failed"
    bench.seen("shed", 0, retry_after_s=600)
    assert (bench.row(0).state, bench.row(0).failed) == ("due", 0)
    bench.go(9 * MINUTE)
    assert bench.row(0).state == "due"
    bench.go(2 * MINUTE)
    assert (bench.row(0).state, bench.row(0).failed, bench.row(0).attempt) == ("requested", 0, 2)


def test_an_image_that_is_given_out_no_longer_stops_the_campaign_and_no_station_is_to_blame() -> None:
    bench = Bench(10, max_in_flight=4, retries=0, error=0.1, min_sample=1)
    bench.go()
    first = bench.asked()
    gone = {"campaign": "c1", "image": image(NEW)["image_id"], "reason": "held back: stations reboot"}
    bench.seen("withdrawn", first[0], **(gone | {"image": "another"}))
    bench.seen("withdrawn", first[0], **(gone | {"campaign": "c7"}))
    assert bench.state == "running"
    for number in first[:3]:
        bench.result(number)
        bench.seen("withdrawn", number, **gone)
        bench.status(number, "DownloadFailed")
    assert bench.state == "paused"
    assert [row.event for row in bench.campaigns].count("held") == 1
    assert bench.campaigns[-1].text == ("the file server refuses volta_v2_2.0.0: held back: stations reboot")
    bench.go(HOUR)
    assert len(bench.asks) == 4
    assert {bench.row(number).state for number in first[:3]} == {"due"}
    bench.operator({"id": "c1", "action": "resume", "by": "bob", "text": "the hold was lifted"})
    bench.go(20 * MINUTE)
    assert sorted(bench.asked()[4:7]) == sorted(first[:3])


@pytest.mark.parametrize("name", ["ann", "Ann", " ANN", "ａｎｎ", "A nn"])
def test_the_same_person_may_not_approve_however_the_name_is_written(name: str) -> None:
    bench = Bench(0)
    bench.operator(plan())
    bench.operator({"id": "c1", "action": "approve", "by": name})
    assert (bench.state, bench.campaigns[-1].event) == ("waiting_for_approval", "refused")


def test_abort_takes_back_what_has_not_left() -> None:
    bench = Bench(4)
    bench.go()
    bench.result(0)
    bench.operator({"id": "c1", "action": "abort", "by": "bob"})
    bench.now += 10_000
    bench.book.advance(bench.now)
    taken_back = bench.book.drain().cancels
    assert {one.station for one in taken_back} == {"cs1", "cs2", "cs3"}
    assert taken_back[0].cmd_id == command_id(taken_back[0].site, taken_back[0].station, "campaign/c1/1")
    message = cancel_of(taken_back[0])
    assert message.topic == "evt/v1/_op/command_cancel"
    assert msgspec.json.decode(message.payload)["by"] == "campaign:c1"
    bench.result(1, "failed", "", sent_ms=None, reason="taken back by campaign:c1")
    assert bench.row(1).state == "cancelled"
    bench.go(MINUTE)
    bench.now += MINUTE
    bench.book.advance(bench.now)
    assert bench.book.drain().cancels == []  # once
    bench.update(0)
    for number in (2, 3):
        bench.result(number, "expired", "", sent_ms=None)
    bench.go()
    assert bench.state == "aborted"
    assert bench.states() == {"succeeded": 1, "cancelled": 3}


def test_stations_without_signed_updates_are_told_the_address_alone() -> None:
    bench = Bench(2, signed=False)
    bench.go()
    assert set(bench.asks[0].body["firmware"]) == {"location", "retrieveDateTime"}


def test_an_error_is_an_answer_and_is_not_waited_out() -> None:
    """A CALLERROR has no status: NotImplemented is final, another one is tried again while retries last."""
    bench = Bench(3, retries=1)
    bench.go()
    for number, code in ((0, "NotImplemented"), (1, "InternalError")):
        error = {"error": {"code": code, "description": ""}}
        bench.result(number, "failed", "", event="error", answer=error, reason=f"could not do it: {code}")
    bench.result(2, "failed", "", event="give_up", reason="no answer, sent 3 times")
    assert (bench.row(0).state, "NotImplemented" in bench.row(0).reason) == ("rejected", True)
    assert (bench.row(1).state, bench.row(1).failed) == ("due", 1)
    assert bench.row(2).state == "requested"  # it may be at work


@pytest.mark.parametrize("signed", [True, False])
def test_what_is_asked_can_be_sent_in_both_versions_of_ocpp(signed: bool) -> None:
    bench = Bench(1, signed=signed)
    bench.go()
    (ask,) = bench.asks
    check_command(ask.command, ask.body)
    action, body = to_16(ask.command, ask.body)
    check_schema(action, body, "1.6")
    assert action == ("SignedUpdateFirmware" if signed else "UpdateFirmware")
    assert ("requestId" in body) is signed


def test_an_error_of_a_station_reaches_the_campaign_as_one() -> None:
    """The word of the site's shard is what the campaign reads."""
    told = Control().feed(birth(0), update(1000, 1))
    cmd_id = told.sent()[0]["cmdId"]
    error = {"code": "NotImplemented", "description": "no such action"}
    told.feed(
        message(
            2000,
            "depot/s1/up/cmdres",
            v=1,
            boot=1,
            seq=1,
            cmdId=cmd_id,
            t=NOW + 2000,
            status="Failed",
            error=error,
        )
    )
    (result,) = told.told("result")
    seen = read_seen("result", result)
    assert isinstance(seen, ResultSeen)
    assert (seen.state, seen.event) == ("failed", "error")
    assert seen.answer["error"]["code"] == "NotImplemented"
