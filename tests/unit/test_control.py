"""The control stage: operator requests to `dn/cmd`, answers to rows, forwarding to the control shard."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from models.frame import Frame
from models.outputs import CommandRow, Publish
from models.policies import Desk, Policy, PolicyPlan
from models.records import Operator, Record
from pipeline.config import Config
from pipeline.control import ControlConfig, ControlStage
from pipeline.control_plan import control_plan
from pipeline.order import OrderConfig, OrderStage

T0 = 1_780_000_000_000
ROUTES = OrderConfig(tuple(Config().topic_routes()))
Message = tuple[int, bytes, bytes, int]


def message(at_ms: int, topic: str, **body: Any) -> Message:
    return (T0 + at_ms) * 1_000_000, f"evt/v1/{topic}".encode(), msgspec.json.encode(body), 0


def tick(at_ms: int) -> Message:
    return (T0 + at_ms) * 1_000_000, b"", b"", 2


def birth(at_ms: int, node: str = "s1", boot: int = 1, **more: Any) -> Message:
    known = {"v": 1, "online": True, "boot": boot, "cid": 1, "fw": "1.0", "vendor": "acme", "model": "m"}
    return message(at_ms, f"depot/{node}/up/conn", **(known | more))


def request(at_ms: int, id_: str = "1", station: str = "s1", **more: Any) -> Message:
    known = {"id": id_, "site": "depot", "station": station, "command": "Reset", "by": "anna"}
    return message(at_ms, "_op/command", **(known | {"body": {"type": "OnIdle"}, "expires_s": 60} | more))


def answer(at_ms: int, cmd_id: str, status: str = "Accepted", seq: int = 1) -> Message:
    return message(
        at_ms, "depot/s1/up/cmdres", v=1, boot=1, seq=seq, cmdId=cmd_id, t=T0 + at_ms, status=status
    )


class Bench:
    """Order and control stage of one shard, fed by hand."""

    def __init__(self, shard: int = 0, config: ControlConfig | None = None) -> None:
        self.config = config or control_plan(Config())
        self.shard = shard
        self.order = OrderStage(shard, ROUTES)
        self.control = ControlStage(shard, self.config)
        self.rows: list[CommandRow] = []
        self.published: list[Publish] = []
        self.dead: list[str] = []
        self.reported: dict[str, list[Any]] = {}
        self.fed = 0

    def feed(self, *messages: Message) -> Bench:
        return self.feed_frame(Frame.build(list(messages)))

    def feed_frame(self, frame: Frame) -> Bench:
        for batch in self.order.process((self.shard, self.fed, frame)):
            for out in self.control.process(batch):
                self.rows += out.commands
                self.published += out.publishes
                self.dead += [dead.detail for dead in out.dead]
                for stream, records in out.reported.items():
                    self.reported.setdefault(stream, []).extend(records)
        self.fed += len(frame)
        return self

    def restart(self) -> None:
        self.order = OrderStage(self.shard, ROUTES, self.order.snapshot())
        self.control = ControlStage(self.shard, self.config, self.control.snapshot())

    def sent(self) -> list[dict[str, Any]]:
        return [json.loads(p.payload) for p in self.published if p.topic.endswith("/dn/cmd")]

    def told(self, kind: str) -> list[dict[str, Any]]:
        return [json.loads(p.payload) for p in self.published if p.topic == f"evt/v1/_ctl/{kind}"]

    def states(self) -> list[tuple[str, str]]:
        return [(row.event, row.state) for row in self.rows]


def test_a_request_leaves_as_native_command_and_its_answer_comes_back() -> None:
    bench = Bench().feed(birth(0), tick(1000), request(1500))
    (publish,) = [p for p in bench.published if p.topic.endswith("dn/cmd")]
    body = json.loads(publish.payload)
    assert publish.topic == "evt/v1/depot/s1/dn/cmd"
    assert (publish.qos, publish.retain, publish.until_ms) == (1, False, T0 + 61_500)
    assert body == {
        "v": 1,
        "cmdId": bench.rows[0].cmd_id,
        "st": "s1",
        "action": "Reset",
        "payload": {"type": "OnIdle"},
        "issued": T0 + 1500,
        "expires": T0 + 61_500,
    }
    bench.feed(answer(2000, body["cmdId"]), answer(2100, body["cmdId"], "Rejected", 2))
    assert bench.states() == [
        ("asked", "requested"),
        ("send", "sent"),
        ("accept", "accepted"),
        ("reject", "accepted"),
    ]
    (result,) = bench.told("result")
    assert (result["state"], result["cause"], result["shard"]) == ("accepted", "operator/1", 0)


def test_ticks_expire_and_resend() -> None:
    bench = Bench().feed(birth(0), request(500), *(tick(s * 1000) for s in range(1, 70)))
    assert bench.states()[2:] == [("resend", "sent"), ("expire", "expired")]
    assert bench.rows[-1].changed_ms == T0 + 61_000
    assert len(bench.sent()) == 2


def test_a_station_known_by_its_readings_only_can_be_told() -> None:
    meter = message(
        0,
        "depot/s1/up/meter",
        v=1,
        boot=1,
        seq=1,
        series=[{"evse": 1, "t0": T0, "ch": ["Power.Active.Import"], "rows": [[0, 1.0]]}],
    )
    assert len(Bench().feed(meter, request(10)).sent()) == 1
    assert len(Bench().feed(meter).feed(request(10)).sent()) == 1
    bench = Bench().feed(request(10), meter)  # not known yet when it was asked for
    assert bench.states()[-1] == ("refuse", "failed")


def test_away_and_back() -> None:
    gone = message(100, "depot/s1/up/conn", v=1, online=False, boot=1, cid=1)
    older = message(400, "depot/s1/up/conn", v=1, online=False, boot=1, cid=1)
    bench = Bench().feed(birth(0), gone, request(200))
    assert bench.sent() == []
    bench.feed(birth(300, boot=2), older)
    assert len(bench.sent()) == 1
    assert [s["online"] for s in bench.told("station")] == [True, False, True]
    bench.feed(birth(900, boot=3))
    assert bench.states()[-1] == ("restart", "accepted")


def test_stations_behind_a_gateway() -> None:
    link = {"v": 1, "boot": 1, "seq": 1}
    here = message(10, "depot/gw/up/link", **link, items=[{"st": "s1", "t": T0, "online": True}])
    bench = Bench().feed(birth(0, "gw"), here, request(20))
    (sent,) = [p for p in bench.published if p.topic.endswith("dn/cmd")]
    assert sent.topic == "evt/v1/depot/gw/dn/cmd"
    assert json.loads(sent.payload)["st"] == "s1"
    told = bench.told("station")
    assert [(t["station"], t["fw"], t["online"]) for t in told] == [("gw", "1.0", True), ("s1", "", True)]


def test_a_request_that_is_none_is_dead_and_one_that_cannot_be_is_told() -> None:
    bench = Bench().feed(birth(0), message(1, "_op/command", id="1", site="depot"))
    assert bench.dead == [
        "a request for a command: Object missing required field `station`; "
        "it needs id, site, station, command, by, expires_s"
    ]
    assert bench.rows == []
    bench.feed(request(2, body={"type": "Now"}))
    assert bench.rows[-1].state == "failed"
    assert "'Now' is not one of" in bench.rows[-1].reason


def test_taking_back_a_request() -> None:
    gone = message(1, "depot/s1/up/conn", v=1, online=False, boot=1, cid=1)
    bench = Bench().feed(birth(0), gone, request(2))
    cancel = message(3, "_op/command_cancel", id="2", site="depot", cmd_id=bench.rows[0].cmd_id, by="ben")
    bench.feed(cancel)
    assert bench.states()[-1] == ("cancel", "failed")


def test_charging_and_firmware_are_told_once_when_they_change() -> None:
    def tx(at: int, event: str, evse: int, id_: str, seq: int) -> Message:
        item = {"evse": evse, "t": T0 + at, "txId": id_, "seqNo": seq, "eventType": event}
        return message(at, "depot/s1/up/tx", v=1, boot=1, seq=seq, items=[item])

    firmware = message(90, "depot/s1/up/fw", v=1, boot=1, seq=6, t=T0, requestId=7, status="Installed")
    bench = Bench().feed(
        birth(0),
        tx(10, "Started", 1, "a", 1),
        tx(20, "Started", 2, "b", 2),
        tx(30, "Ended", 1, "a", 3),
        tx(40, "Ended", 2, "b", 4),
        tx(50, "Ended", 2, "b", 5),
        firmware,
    )
    assert [(c["charging"], c["time_ms"] - T0) for c in bench.told("charging")] == [(True, 10), (False, 40)]
    (told,) = bench.told("fw")
    assert (told["station"], told["request_id"], told["status"]) == ("s1", 7, "Installed")


def digest_messages() -> list[Message]:
    """Two hours of a station that charges, fails to start, and is away for ten minutes."""

    def meter(at: int, seq: int, register_wh: int, station: str = "s1") -> Message:
        series = {
            "evse": 1,
            "t0": T0 + at,
            "ch": ["Energy.Active.Import.Register"],
            "rows": [[0, register_wh]],
        }
        return message(at, f"depot/{station}/up/meter", v=1, boot=1, seq=seq, series=[series])

    def tx(at: int, seq: int, event: str, id_: str, **more: Any) -> Message:
        item = {"evse": 1, "t": T0 + at, "txId": id_, "seqNo": seq, "eventType": event} | more
        return message(at, "depot/s1/up/tx", v=1, boot=1, seq=seq, items=[item])

    gone = message(3_000_000, "depot/s1/up/conn", v=1, online=False, boot=1, cid=1)
    return [
        birth(0),
        meter(1000, 1, 100),
        meter(1_500_000, 2, 4100),
        tx(2_100_000, 3, "Started", "a", chargingState="EVConnected"),
        tx(2_200_000, 4, "Ended", "a"),
        tx(2_300_000, 5, "Started", "b", chargingState="Charging"),
        gone,
        birth(3_600_000, cid=2),
        *(tick(at) for at in range(3_601_000, 3_700_000, 1000)),
        meter(3_900_000, 6, 6100),
        *(tick(at) for at in range(7_100_000, 7_300_000, 1000)),
        meter(7_400_000, 7, 9100),
    ]


def test_an_hour_is_told_in_numbers() -> None:
    assert T0 % 3_600_000 == 1_600_000  # so the hours end 2,000 s and 5,600 s after
    bench = Bench().feed(*digest_messages(), tick(9_300_000))
    second, third = (d | d["items"][0] for d in bench.told("digest"))  # of whole hours only
    assert (second["hour_ms"] - T0, second["to_ms"] - T0, second["charging"]) == (2_000_000, 5_600_000, True)
    assert (second["energy_mwh"], second["starts"], second["offline_s"]) == (2_000_000, 2, 600)
    assert second["failed_starts"] == 1
    assert (third["energy_mwh"], third["offline_s"], third["hour_ms"] - T0) == (3_000_000, 0, 5_600_000)


class Heard(Policy):
    """Asks for a reset of whatever station is told of, and hears how that ends."""

    def __init__(self, state: dict[str, Any] | None) -> None:
        self.heard: list[str] = list((state or {}).get("heard", []))

    def forwarded(self, kind: str, body: dict[str, Any], desk: Desk) -> None:
        self.heard.append(f"{kind} {body['station']}")
        desk.report("campaigns", Operator(at=msgspec.json.decode(b"{}"), topic=kind, body=body))

    def record(self, record: Record, desk: Desk) -> None:
        self.heard.append(type(record).__name__)

    def command(self, row: CommandRow, desk: Desk) -> None:
        self.heard.append(row.event)

    def snapshot(self) -> dict[str, Any]:
        return {"heard": list(self.heard)}


def test_the_control_shard_hears_what_is_forwarded_and_has_policies_of_its_own() -> None:
    plans = (
        PolicyPlan("fleet", True, lambda _s, state: Heard(state)),
        PolicyPlan("site", False, lambda _s, state: Heard(state)),
    )
    config = ControlConfig(shards=4, policies=plans)
    fleet = Bench(4, config).feed(message(0, "_ctl/station", station="s1"))
    assert fleet.control.snapshot()["policies"] == {"fleet": {"heard": ["station s1"]}}
    assert len(fleet.reported["campaigns"]) == 1
    site = Bench(1, config).feed(birth(0), request(1))
    site.restart()
    assert site.control.snapshot()["policies"] == {"site": {"heard": ["Birth", "Operator", "asked", "send"]}}


@pytest.mark.parametrize("every", [1, 2, 5])
@pytest.mark.parametrize("restart", [False, True])
def test_however_it_is_cut_and_restored_the_same_comes_out(every: int, restart: bool) -> None:
    gone = message(5000, "depot/s1/up/conn", v=1, online=False, boot=1, cid=1)
    meter = message(
        15_500,
        "depot/s9/up/meter",
        v=1,
        boot=1,
        seq=1,
        series=[{"evse": 1, "t0": T0, "ch": ["Power.Active.Import"], "rows": [[0, 1.0]]}],
    )
    first = Bench().feed(birth(0), request(10)).rows[0].cmd_id
    messages = [
        request(1, "early", "s9"),
        birth(5),
        request(10),
        request(20, "2", priority=0),
        request(30, "3", expires_s=20),
        answer(1000, first),
        gone,
        request(6000, "4"),
        *(tick(s * 1000) for s in range(7, 15)),
        birth(15_000, boot=2),
        request(15_400, "unknown", "s9"),
        meter,
        request(15_600, "known", "s9"),
        *(tick(s * 1000) for s in range(16, 100)),
    ]
    whole, parts = Bench().feed(*messages), Bench()
    for start in range(0, len(messages), every):
        parts.feed(*messages[start : start + every])
        if restart:
            parts.restart()
    assert parts.rows == whole.rows
    assert parts.published == whole.published
    assert {row.state for row in whole.rows} >= {"accepted", "expired", "failed", "sent"}


@pytest.mark.parametrize("every", [1, 3])
def test_however_it_is_cut_the_same_digest_comes_out(every: int) -> None:
    messages = [*digest_messages(), tick(9_300_000)]
    whole, parts = Bench().feed(*messages), Bench()
    for start in range(0, len(messages), every):
        parts.feed(*messages[start : start + every])
        parts.restart()
    assert parts.published == whole.published


class _Alarm(Policy):
    """Wants to be woken at times of its own, the next of them known once the one before is over."""

    def __init__(self) -> None:
        self.times = [T0 + 2_500, T0 + 2_600, T0 + 7_000, T0 + 7_001, T0 + 90_000]
        self.woken: list[tuple[int, int]] = []

    def due_ms(self) -> int | None:
        return self.times[0] if self.times else None

    def tick(self, desk: Desk) -> None:
        self.times.pop(0)
        self.woken.append((desk.now_ms - T0, desk.order))


@pytest.mark.parametrize("at_once", [1, 2, 7, 40])
def test_a_policy_is_woken_at_the_first_tick_at_which_it_is_due(at_once: int) -> None:
    alarm = _Alarm()
    bench = Bench(config=ControlConfig(policies=[PolicyPlan("alarm", False, lambda shard, state: alarm)]))
    log = [birth(0), *(tick(1000 * s) for s in range(1, 31)), birth(30_500, boot=2), tick(31_000)]
    for at in range(0, len(log), at_once):
        bench.feed(*log[at : at + at_once])
    # the birth is 0, tick s has order s; one call a tick, what is still due waits for the next
    assert alarm.woken == [(3000, 3), (4000, 4), (7000, 7), (8000, 8)]
    assert (bench.control.now_ms, bench.control.order) == (T0 + 31_000, 32)


def tx(at_ms: int, event: str, seq: int) -> Message:
    item = {"st": "s1", "evse": 1, "t": T0 + at_ms, "txId": "t", "seqNo": seq, "eventType": event}
    return message(at_ms, "depot/s1/up/tx", v=1, boot=1, seq=seq, items=[item | {"triggerReason": "Trigger"}])


def update(at_ms: int, attempt: int) -> Message:
    cause = f"campaign/c/{attempt}"
    body = {"requestId": attempt, "firmware": {"location": "u", "retrieveDateTime": "2026-06-01T00:00:00Z"}}
    return request(
        at_ms, cause, command="UpdateFirmware", body=body, cause=cause, priority=3, by="campaign:c"
    )


def test_a_campaigns_update_does_not_leave_when_a_car_came_since() -> None:
    bench = Bench().feed(birth(0), tx(500, "Started", 1), update(1000, 1))
    assert bench.sent() == []
    (result,) = bench.told("result")
    assert (result["state"], result["sent_ms"], result["reason"]) == ("failed", None, "a car charges since")
    bench.feed(tx(2000, "Ended", 2), update(3000, 2))
    assert [body["payload"]["requestId"] for body in bench.sent()] == [2]
    # one that waited for its turn, or for the station, is looked at when it leaves
    bench = Bench().feed(birth(0), request(100), update(200, 1), tx(500, "Started", 1))
    bench.feed(answer(1000, bench.sent()[0]["cmdId"], seq=2))
    assert [body["action"] for body in bench.sent()] == ["Reset"]
    # people may: it is their word
    assert len(Bench().feed(birth(0), tx(500, "Started", 1), request(600)).sent()) == 1
