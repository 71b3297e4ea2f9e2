"""The telemetry gate: its test against sums by hand, its error rates, and what a campaign makes of it."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from models.errors import SnapshotError
from models.gate import HOUR_MS, Gate, GateSettings

from .campaigning import HOUR, MINUTE, T0, Bench

ONE = GateSettings(metrics=("findings",), min_soak_s=0, min_stations=2)


def hours(gate: Gate, rate: float, worse: float, n: int, updated: int, seed: int, count: int = 24) -> None:
    rng = np.random.default_rng(seed)
    mask = np.arange(n) < updated
    for hour in range(gate.from_hour, gate.from_hour + count):
        values = np.zeros((n, 4))
        values[:, 0] = rng.poisson(rate * np.where(mask, worse, 1.0))
        gate.add(hour, np.arange(n), mask, values, np.ones(n))


def naive_llr(x1: list[int], x0: list[int], e1: list[int], e0: list[int], ratio: float) -> float:
    """The logarithm of the ratio of two binomial probabilities, hour by hour."""
    total = 0.0
    for a, b, m, n in zip(x1, x0, e1, e0, strict=True):
        p = m / (m + n)
        q = ratio * m / (ratio * m + n)
        total += a * math.log(q / p) + b * math.log((1 - q) / (1 - p))
    return total


def test_the_sum_is_the_ratio_of_two_binomials() -> None:
    gate = Gate(0)
    x1, x0, e1, e0 = [3, 0, 5], [4, 2, 1], [10, 20, 20], [40, 30, 30]
    for hour in range(3):
        n = e1[hour] + e0[hour]
        values = np.zeros((n, 4))
        values[: x1[hour], 0] = 1.0
        values[n - x0[hour] :, 0] = 1.0
        gate.add(hour, np.arange(n), np.arange(n) < e1[hour], values, np.ones(n))
    (found,) = gate.judge(ONE, 0).metrics
    assert found.llr * found.dispersion == pytest.approx(naive_llr(x1, x0, e1, e0, 1.5), abs=0.01)
    assert (found.updated, found.waiting, found.updated_exposure) == (8.0, 7.0, 50.0)


def test_bounds_share_alpha_among_the_metrics() -> None:
    lower, upper = GateSettings().bounds
    assert upper == pytest.approx(math.log(0.99 / 0.0025))
    assert lower == pytest.approx(math.log(0.01 / 0.9975))


def test_worse_same_and_open() -> None:
    gate = Gate(0)
    assert gate.judge(ONE, 0).decision == "wait"
    hours(gate, 0.1, 2.0, 400, 100, 1)
    verdict = gate.judge(ONE, 0)
    assert verdict.decision == "worse"
    assert verdict.reason == (
        "findings: 0.1883 per station-hour of the updated, 0.1079 of those that wait, 1.75 times; "
        "worse: log likelihood ratio 31.51 (as before below -4.59, worse above 4.59)"
    )
    assert (verdict.stations_updated, verdict.stations_waiting, verdict.hours) == (100, 300, 24)
    gate = Gate(0)
    hours(gate, 0.1, 1.0, 400, 100, 2)
    assert gate.judge(ONE, 0).decision == "pass"
    gate = Gate(0)
    hours(gate, 0.001, 1.0, 400, 100, 3)
    assert gate.judge(ONE, 0).decision == "wait"
    assert gate.judge(GateSettings(metrics=("findings",)), 0).reason == "soaking 21600 s"


@pytest.mark.parametrize(
    ("undecided", "decision"), [("pause", "undecided"), ("continue", "pass"), ("likelier", "pass")]
)
def test_the_end_of_the_longest_soak(undecided: Any, decision: str) -> None:
    gate = Gate(0)
    hours(gate, 0.001, 1.0, 400, 100, 3)
    settings = GateSettings(metrics=("findings",), max_soak_s=24 * 3600, undecided=undecided)
    assert gate.judge(settings, 23 * HOUR_MS).decision == "wait"
    verdict = gate.judge(settings, 24 * HOUR_MS)
    assert verdict.decision == decision
    assert "soak" in verdict.reason


def test_few_stations_say_nothing() -> None:
    gate = Gate(0)
    hours(gate, 1.0, 3.0, 100, 5, 1)
    verdict = gate.judge(GateSettings(), 7 * HOUR_MS)
    assert (verdict.decision, verdict.reason) == ("wait", "5 updated and 95 waiting stations, 20 each needed")


def test_stations_that_differ_make_the_gate_slower_not_wrong() -> None:
    """Rates drawn from a gamma distribution: without the dispersion, one in ten is stopped for nothing."""
    stopped = plain = 0
    for seed in range(60):
        rng = np.random.default_rng(seed)
        gate = Gate(0)
        own = rng.gamma(0.5, 2.0, 300)  # a few stations have most of the trouble
        values = np.zeros((300, 4))
        for hour in range(48):
            values[:, 0] = rng.poisson(0.2 * own)
            gate.add(hour, np.arange(300), np.arange(300) < 60, values, np.ones(300))
        (found,) = gate.judge(ONE, 0).metrics
        stopped += found.llr >= found.upper
        plain += found.llr * found.dispersion >= found.upper
        assert found.dispersion > 4.0
    assert stopped <= 1
    assert plain >= 3


def test_snapshot_and_capacity() -> None:
    one, two = Gate(0), Gate(0)
    hours(one, 0.1, 1.5, 200, 50, 5, 60)
    hours(two, 0.1, 1.5, 200, 50, 5, 30)
    two = Gate.restore(two.snapshot())
    rng = np.random.default_rng(5)
    mask = np.arange(200) < 50
    for hour in range(60):
        values = np.zeros((200, 4))
        values[:, 0] = rng.poisson(0.1 * np.where(mask, 1.5, 1.0))
        if hour >= 30:
            two.add(hour, np.arange(200), mask, values, np.ones(200))
    assert one.judge(ONE, 0) == two.judge(ONE, 0)
    with pytest.raises(SnapshotError):
        Gate.restore({"version": 0})


def test_energy_that_nobody_told_is_no_zero() -> None:
    gate = Gate(0)
    values = np.zeros((100, 4))
    values[:, 3] = 500.0
    values[:10, 3] = np.nan
    gate.add(0, np.arange(100), np.arange(100) < 20, values, np.ones(100))
    energy = gate.judge(GateSettings(), 0).metrics[3]
    assert (energy.rate_updated, energy.rate_waiting) == (500.0, 500.0)
    assert (energy.updated_exposure, energy.waiting_exposure) == (10.0, 80.0)


def campaign(worse: float, restarts: bool = False) -> Bench:
    """Run a canary wave of 60 of 300 stations, then hours of digests, until the gate decides."""
    gate = {"metrics": ["findings"], "min_soak_s": 7200, "min_stations": 20, "max_soak_s": 86_400}
    bench = Bench(300, waves=[{"count": 60}], gate=gate, per_minute=6000)
    bench.restarts = restarts
    bench.go(MINUTE)
    canaries = bench.asked()
    assert len(canaries) == 60
    for number in canaries:
        bench.update(number)
    rng = np.random.default_rng(11)
    rate = np.full(300, 0.3)
    rate[canaries] *= worse
    for hour in range(T0 // HOUR + 1, T0 // HOUR + 30):
        bench.hour(hour, rng.poisson(rate), 300)
        bench.now = (hour + 1) * HOUR
        bench.go(5 * MINUTE)
        if any(row.event == "gate" for row in bench.campaigns):
            break
    return bench


def test_a_bad_image_is_stopped_with_the_evidence_and_a_person_may_overrule() -> None:
    bench = campaign(1.5)
    assert (bench.state, len(bench.asks)) == ("paused", 60)
    (gate,) = [row for row in bench.campaigns if row.event == "gate"]
    assert gate.verdict is not None
    (metric,) = gate.verdict["metrics"]
    assert (gate.verdict["decision"], metric["verdict"]) == ("worse", "worse")
    assert 1.2 < metric["rate_updated"] / metric["rate_waiting"] < 1.9
    bench.operator({"id": "c1", "action": "resume", "by": "bob", "waive_gate": True, "text": "known"})
    bench.go(10 * MINUTE)
    assert len(bench.asks) == 300


@pytest.mark.parametrize("restarts", [False, True])
def test_a_harmless_image_goes_on(restarts: bool) -> None:
    bench = campaign(1.0, restarts)
    bench.go(10 * MINUTE)
    assert (bench.state, len(bench.asks)) == ("running", 300)


def test_resume_without_a_word_on_the_gate_begins_it_anew() -> None:
    bench = campaign(1.5)
    bench.operator({"id": "c1", "action": "resume", "by": "bob"})
    bench.go(HOUR)
    assert (bench.state, len(bench.asks)) == ("running", 60)
    bench.go(24 * HOUR)
    assert bench.state == "paused"
    assert "undecided" in bench.campaigns[-1].text


def test_digests_one_by_one_are_those_of_a_whole_hour() -> None:
    one, many = (Bench(40, waves=[{"count": 10}], gate={"min_stations": 2}) for _ in range(2))
    for bench in (one, many):
        bench.go(MINUTE)
        for number in bench.asked():
            bench.update(number)
    hour = T0 // HOUR + 1
    many.hour(hour, 1.0, 40)
    for numbers in (range(25), range(20, 40), range(40)):  # some come twice
        items = [
            {"site": f"s{n % 2}", "station": f"cs{n}", "findings": 1, "starts": 2, "energy_mwh": 1_000_000}
            for n in numbers
        ]
        whole = {"hour_ms": hour * HOUR, "to_ms": (hour + 1) * HOUR, "order": 10_000, "items": items}
        one.book.seen("digest", whole, one.now)
        one.book.seen("digest", whole | {"hour_ms": hour * HOUR + MINUTE}, one.now)  # no whole hour
    for bench in (one, many):
        bench.go(2 * HOUR)
    states = [bench.book.runs["c1"].gate for bench in (one, many)]
    assert states[0] is not None
    assert states[1] is not None
    for name, value in states[0].snapshot().items():
        assert np.array_equal(value, states[1].snapshot()[name]), name
