"""The parts behind the page: words, the power trace and its chart, and answers kept for a while."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

from connectors.api import words
from connectors.api.power import HEIGHT, HOUR_MS, WIDTH, PowerTrace, chart, nice_ceiling
from connectors.api.recent import Recent
from connectors.ledger_reader import LedgerReader
from models import evidence_text
from models.outputs import LatestRow, RollupRow
from tests.seeded import Fleet, Seeded

NOW_MS = 1_800_000_000_000


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-5, "0 s"), (0, "0 s"), (119, "119 s"), (120, "2 min"), (7_199, "119 min"), (7_200, "2 h"),
     (172_800, "2 d")],
)  # fmt: skip
def test_durations(seconds: float, text: str) -> None:
    assert evidence_text.duration(seconds) == text
    assert words.ago(NOW_MS - int(seconds * 1000), NOW_MS) == f"{text} ago"


def test_what_is_missing_is_said_to_be() -> None:
    assert words.ago(None, NOW_MS) == "never"
    assert words.power_text(None) == words.register_text(None) == words.NOTHING


@pytest.mark.parametrize(
    ("power_w", "text"),
    [(0.0, "0.00 kW"), (7_412.0, "7.41 kW"), (-500.0, "-0.50 kW"), (123_456.0, "123.5 kW"),
     (12_345_678.0, "12.35 MW")],
)  # fmt: skip
def test_powers(power_w: float, text: str) -> None:
    assert words.power_text(power_w) == text


@pytest.mark.parametrize(
    ("reg_mwh", "text"),
    [
        (0, "0.000"),
        (999_999, "0.999"),
        (1_234_567_890, "1,234.567"),
        (-1_500_000, "-1.500"),
        (-900, "-0.000"),
    ],
)
def test_registers_are_never_rounded_up(reg_mwh: int, text: str) -> None:
    assert words.register_text(reg_mwh) == text


@pytest.mark.parametrize(
    ("evidence", "text"),
    [
        ({"limit_v": 207, "phase": 2.0, "u_n_v": 230.0, "voltage_mean_v": 201.327, "window_s": 600.0},
         "voltage mean 201.3 V, limit 207 V, nominal 230 V, phase L2, window 10 min"),
        ({"register_before_wh": 1_294_567.89, "fall_wh": 5_000},
         "register before 1,294,568 Wh, fall 5,000 Wh"),
        ({"last_heard_ms": NOW_MS, "silent_s": 8.25}, "last heard 2027-01-15 08:00:00 UTC, silent 8.25 s"),
        ({"residual_ma": 6.5, "sensor": 1.0, "phase": 0.0}, "residual 6.5 mA, sensor cable, phase 0"),
        ({"value": True, "odd": None, "empty": "", "s": 3}, "value True, s 3"),
        ({"last_ms": 1e300}, "last ms 1e+300"),
        ({f"n{k}": k for k in range(9)}, "n0 0, n1 1, n2 2, n3 3, n4 4, n5 5, 3 more"),
        ({"cause": "x" * 500}, f"cause {'x' * 120}…"),
        ({}, ""),
    ],
)  # fmt: skip
def test_evidence_reads_as_a_line(evidence: dict[str, Any], text: str) -> None:
    assert evidence_text.figures(evidence) == text


@pytest.mark.parametrize(
    ("value", "top"),
    [(-1, 1), (0, 1), (1, 1), (1.1, 2), (3, 4), (5, 8), (9, 10), (440, 800), (8_001, 10_000)],
)
def test_the_chart_has_room_for_its_greatest_value(value: float, top: float) -> None:
    assert nice_ceiling(value) == top


def test_the_chart_keeps_its_gaps_open() -> None:
    minutes = [(NOW_MS - HOUR_MS + k * 60_000, 1_000.0 * k) for k in range(60) if k not in range(20, 25)]
    drawn = chart([*minutes[:40], (NOW_MS, 8_000.0)], NOW_MS)
    assert len(drawn.lines) == len(drawn.areas) == 2
    assert drawn.dots == [(WIDTH, HEIGHT * 0.9)]
    assert drawn.lines[0].startswith(f"0,{HEIGHT} ")
    assert drawn.levels == ["80 kW", "60 kW", "40 kW", "20 kW", "0 kW"]
    assert (drawn.hours[0], drawn.hours[-1]) == ("07:00", "08:00")
    assert "now 8.00 kW, highest 44.00 kW" in drawn.words
    assert chart([], NOW_MS).words.endswith("nothing measured.")


@pytest.mark.parametrize(("age_min", "span_min"), [(0, 8), (8, 8), (8.1, 20), (21, 60), (60, 60)])
def test_the_chart_of_a_fresh_service_is_shorter(age_min: float, span_min: int) -> None:
    points = [(NOW_MS - int(age_min * 60_000), 500.0), (NOW_MS, 500.0)]
    assert chart(points, NOW_MS).span_min == span_min
    assert chart([], NOW_MS).span_min == 60


def rollup(minute: int, evse: int, power_w: float) -> RollupRow:
    start = NOW_MS // 60_000 * 60_000 - minute * 60_000
    return RollupRow(site="s", station="c", evse=evse, start_ms=start, readings=60, power_mean_w=power_w,
                     energy_mwh=None)  # fmt: skip


def latest(evse: int, power_w: float, time_ms: int) -> LatestRow:
    return LatestRow(site="s", station="c", evse=evse, time_ms=time_ms, status="Charging", state=0,
                     reg_mwh=None, values={"power_w": power_w})  # fmt: skip


def test_the_trace_joins_minutes_and_samples(tmp_path: Path) -> None:
    made = Seeded(tmp_path, Fleet(NOW_MS))
    reader = LedgerReader(made.url)
    trace = PowerTrace(reader)
    assert trace.points(NOW_MS - 60_000) == []
    made.apply("rollups", *(rollup(m, e, 100.0) for m in range(1, 50) for e in (1, 2) if (m, e) != (2, 2)))
    made.apply("latest", latest(1, 150.0, NOW_MS - 1_000), latest(2, 70.0, NOW_MS - 1_000),
               latest(3, 999.0, NOW_MS - 400_000))  # fmt: skip
    points = trace.points(NOW_MS)
    # EVSE 2 has not reported minute 2 yet, and EVSE 3 is not heard of any more
    assert [p for _, p in points] == [200.0] * 48 + [220.0]
    assert points[-1] == (NOW_MS, 220.0)
    made.apply("rollups", rollup(2, 2, 100.0))
    made.apply("latest", latest(1, 160.0, NOW_MS))
    # Not sampled again so soon; the minute that was missing is there now.
    assert [p for _, p in trace.points(NOW_MS + 500)] == [200.0] * 49 + [220.0]
    later = trace.points(NOW_MS + 20_000)
    assert [p for _, p in later] == [200.0] * 49 + [230.0]
    for k in range(600):
        trace.points(NOW_MS + 30_000 + k * 2_000)
    assert len(trace.points(NOW_MS + 1_232_000)) < 500
    reader.close()
    made.ledger.close()


class Counted:
    """An answer that takes a given time by a clock of its own, and counts how often it was asked for."""

    def __init__(self, cost_s: float) -> None:
        self.cost_s, self.now_s, self.asked = cost_s, 0.0, 0
        self.error: Exception | None = None
        self.done = threading.Event()

    def __call__(self) -> int:
        self.now_s += self.cost_s
        self.asked += 1
        self.done.set()
        if self.error:
            raise self.error
        return self.asked

    def recent(self) -> Recent[int]:
        return Recent(self, lambda: self.now_s)


def test_a_cheap_answer_is_always_new() -> None:
    ask = Counted(0.001)
    recent = ask.recent()
    assert [recent(), recent(), recent()] == [1, 2, 3]


def test_a_dear_answer_is_kept_and_renewed_behind_our_back() -> None:
    ask = Counted(0.5)
    recent = ask.recent()
    assert [recent(), recent()] == [1, 1]
    ask.now_s += 9.9  # twenty times half a second have not passed
    assert (recent(), ask.asked) == (1, 1)
    ask.done.clear()
    ask.now_s += 0.2
    assert recent() == 1
    assert ask.done.wait(5)
    for thread in threading.enumerate():
        if thread.name == "recent":
            thread.join(5)
    assert recent() == 2


def test_who_asks_seldom_does_not_hear_what_was_true_long_ago() -> None:
    ask = Counted(0.5)
    recent = ask.recent()
    assert recent() == 1
    ask.now_s += 20.1  # twice as long as it is valid
    assert recent() == 2
    quick = Counted(0.1)
    recent = quick.recent()
    assert recent() == 1
    quick.now_s += 4.5  # valid for two seconds, and not yet old
    assert recent() == 1


def test_an_error_is_heard_and_asked_again() -> None:
    ask = Counted(0.5)
    ask.error = ValueError("away")
    recent = ask.recent()
    for _ in range(2):
        with pytest.raises(ValueError, match="away"):
            recent()
    ask.error = None
    assert recent() == 3
