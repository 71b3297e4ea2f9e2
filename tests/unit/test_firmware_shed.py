"""What is told of stations that were put off: once each time, in the end whatever the broker does."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from connectors.firmware_shed import TOPIC, ShedTeller
from connectors.mqtt import Refusal
from connectors.mqtt_settings import MqttSettings
from models.errors import RetryLater
from models.firmware_urls import Grant
from models.outputs import Publish
from tests.servers.ingesting import wait_for


class FakePublisher:
    """Fails some times, then takes everything."""

    def __init__(self, failures: int = 0) -> None:
        self.failures, self.taken = failures, list[dict[str, Any]]()

    def publish(self, batch: Sequence[Publish], timeout_s: float = 10.0) -> list[Refusal]:
        if self.failures:
            self.failures -= 1
            raise RetryLater("no broker")
        assert {message.topic for message in batch} == {TOPIC}
        self.taken += [json.loads(message.payload) for message in batch]
        return []

    def close(self) -> None:
        return


def grant(station: str) -> Grant:
    return Grant("i", "c-1", "S", station, 0)


def test_a_station_is_told_once_while_it_waits() -> None:
    fake, now = FakePublisher(failures=2), [0.0]
    teller = ShedTeller(MqttSettings("127.0.0.1", 1, "x"), fake, lambda: now[0], 0.02)  # type: ignore[arg-type]  # a fake
    for station in ("A", "A", "B"):
        teller.tell(grant(station), 30)
    teller.start()
    wait_for(lambda: len(fake.taken) == 2, "the words")
    now[0] = 29.0
    teller.tell(grant("A"), 30)
    now[0] = 30.0
    teller.tell(grant("A"), 20)
    teller.close()
    assert [(m["station"], m["retry_after_s"]) for m in fake.taken] == [("A", 30), ("B", 30), ("A", 20)]
    assert fake.taken[0] | {"id": ""} == {
        "id": "", "action": "shed", "by": "firmware-server", "site": "S", "station": "A", "campaign": "c-1",
        "retry_after_s": 30,
    }  # fmt: skip


def test_what_waits_is_bounded() -> None:
    teller = ShedTeller(MqttSettings("127.0.0.1", 1, "x"), FakePublisher())  # type: ignore[arg-type]  # a fake
    for number in range(10_005):
        teller.tell(grant(f"CP{number}"), 30)
    assert teller.lost == 5
    teller.close()


def test_a_refused_station_is_told_of_with_the_reason_and_not_at_every_try() -> None:
    fake, now = FakePublisher(), [0.0]
    teller = ShedTeller(MqttSettings("127.0.0.1", 1, "x"), fake, lambda: now[0], 0.02)  # type: ignore[arg-type]  # a fake
    teller.tell(grant("A"), 30)
    for _ in range(3):
        teller.tell_withdrawn(grant("A"), "held back: looks bad")
    now[0] = 61.0
    teller.tell_withdrawn(grant("A"), "held back: looks bad")
    teller.start()
    teller.close()
    assert [m["action"] for m in fake.taken] == ["shed", "withdrawn"]
    assert (fake.taken[1]["campaign"], fake.taken[1]["image"]) == ("c-1", "i")
    assert fake.taken[1]["reason"] == "held back: looks bad"
