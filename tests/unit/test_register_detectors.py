"""register_rollback and register_stuck: limits, replacement, roll-over, sampling tolerance."""

from __future__ import annotations

import pytest

from tests.unit.detector_tape import Tape, at_ns, brief


def registers(tape: Tape, *samples: tuple[float, float]) -> Tape:
    for t, wh in samples:
        tape.sample(t, {}, reg_wh=wh)
    return tape


@pytest.mark.parametrize(("after", "found"), [(998.0, 0), (997.999, 1)])
def test_a_fall_beyond_two_resolutions(after: float, found: int) -> None:
    assert len(registers(Tape(), (0, 1000), (10, after)).run("register_rollback")) == found


def test_rollback_tells_what_fell_and_clears() -> None:
    tape = registers(Tape(), (0, 1000), (10, 5), (20, 6), (69, 7), (70, 8))
    found = tape.run("register_rollback")
    assert brief(found) == [("raise", 0.0, 10.0), ("clear", 0.0, 10.0)]
    assert [e.order for e in found] == [1, 4]
    assert found[0].evidence == {
        "fall_wh": 995.0,
        "register_before_wh": 1000.0,
        "register_after_wh": 5.0,
        "resolution_wh": 1.0,
    }


def test_small_falls_add_up() -> None:
    assert registers(Tape(), (0, 1000), (10, 999), (20, 1000), (30, 998)).run("register_rollback") == []
    assert len(registers(Tape(), (0, 1000), (10, 999), (20, 998), (30, 997)).run("register_rollback")) == 1


def test_readings_without_register_are_passed_over() -> None:
    tape = registers(Tape(), (0, 1000))
    tape.sample(10, {"Power.Active.Import": 0.0})
    assert registers(tape, (20, 1001)).run("register_rollback") == []


def test_another_meter_is_no_rollback() -> None:
    tape = registers(Tape(), (0, 1000))
    tape.sample(10, {}, reg_wh=5, generation=1)
    assert registers(tape, (20, 6)).run("register_rollback") == []
    assert len(registers(tape, (30, 1)).run("register_rollback")) == 1


@pytest.mark.parametrize(
    ("modulus_wh", "before", "after", "found"),
    [
        (1_000_000, 999_990, 20, 0),
        (0, 999_990, 20, 1),
        (1_000_000, 500_000, 20, 1),
        (1_000_000, 999_990, 200, 1),
        (1_000_000, 1_000_050, 20, 1),  # a counter that went beyond has another modulus
    ],
)
def test_roll_over_of_a_declared_modulus(modulus_wh: int, before: float, after: float, found: int) -> None:
    """22 kW in 10 s may be 92 Wh with the factor 1.5: 30 Wh roll over, 210 Wh do not."""
    tape = Tape(modulus_mwh=modulus_wh * 1000, p_max_w=22_000.0)
    assert len(registers(tape, (0, before), (10, after)).run("register_rollback")) == found


def flow(tape: Tape, start: float, end: float, watts: float, reg_wh: float, step: float = 10.0) -> None:
    t = start
    while t <= end:
        tape.sample(t, {"Power.Active.Import": watts}, reg_wh=reg_wh)
        t += step


@pytest.mark.parametrize(("watts", "found"), [(3000.0, 0), (3010.0, 1)])
def test_fifty_watt_hours_may_flow(watts: float, found: int) -> None:
    """3 kW for a minute is exactly 50 Wh; what is beyond is confirmed by the next reading."""
    tape = Tape()
    flow(tape, 0, 60, watts, 1000)
    tape.sample(70, {"Power.Active.Import": 0.0}, reg_wh=1000)
    assert len(tape.run("register_stuck")) == found


def test_two_resolutions_may_flow() -> None:
    for resolution_mwh, found in ((1000, 1), (100_000, 0)):
        tape = Tape(resolution_mwh=resolution_mwh)
        flow(tape, 0, 100, 6000, 1000)
        assert len(tape.run("register_stuck")) == found


def test_a_register_that_trembles_by_its_resolution_is_stuck() -> None:
    tape = Tape()
    for k in range(13):
        flow(tape, 10 * k, 10 * k, 6000, 1000 - k % 2)
    (found,) = tape.run("register_stuck")
    assert found.start_ns == at_ns(0)


def test_stuck_clears_a_while_after_the_register_moves_again() -> None:
    tape = Tape()
    flow(tape, 0, 100, 6000, 1000)
    for k in range(11, 80):
        flow(tape, 10 * k, 10 * k, 6000, 1000 + 17 * (k - 10))
    found = tape.run("register_stuck")
    assert [kind for kind, _, _ in brief(found)] == ["raise", "clear"]
    assert brief(found)[1][1:] == (0, 110)
    assert found[1].effect_ns == at_ns(170)


def test_a_register_stale_for_one_reading_is_lawful() -> None:
    tape = Tape(sample_s=20.0)
    for t, wh in ((0, 1000), (20, 1570), (40, 1569), (60, 2710), (80, 3280)):
        tape.sample(t, {"Power.Active.Import": 102_600.0}, reg_wh=wh)
    assert tape.run("register_stuck") == []


def test_a_power_step_between_two_slow_samples_is_not_energy() -> None:
    """11 kW may have begun right before the second sample: 183 Wh at 120 s, 1375 Wh at 900 s."""
    for period in (120.0, 900.0):
        tape = Tape(sample_s=period)
        for i, watts in enumerate((0.0, 11_000.0, 0.0, 11_000.0, 0.0, 0.0)):
            tape.sample(i * period, {"Power.Active.Import": watts}, reg_wh=1000)
        assert tape.run("register_stuck") == []
        for i in range(6, 8):
            tape.sample(i * period, {"Power.Active.Import": 11_000.0}, reg_wh=1000)
        assert tape.run("register_stuck") == []
        for i in range(8, 9):
            tape.sample(i * period, {"Power.Active.Import": 11_000.0}, reg_wh=1000)
        assert len(tape.run("register_stuck")) == 1


def test_stuck_starts_at_the_last_advance_and_clears_when_it_moves() -> None:
    tape = Tape()
    flow(tape, 0, 30, 11_000, 1000)
    flow(tape, 40, 140, 11_000, 1100)
    for i, t in enumerate(range(150, 230, 10)):
        tape.sample(t, {"Power.Active.Import": 11_000.0}, reg_wh=1200 + 30 * i)
    found = tape.run("register_stuck")
    assert brief(found) == [("raise", 40.0, 100.0), ("clear", 40.0, 150.0)]
    assert found[0].evidence["flat_s"] == 60.0
    assert found[0].evidence["energy_wh"] == pytest.approx(11_000 / 60, rel=1e-6)


def test_what_flows_in_a_gap_is_not_known() -> None:
    tape = Tape(sample_s=10.0)
    for t in (0, 10, 3600, 3610, 3620):
        tape.sample(t, {"Power.Active.Import": 11_000.0}, reg_wh=1000)
    assert len(tape.run("register_stuck")) == 1  # 31 Wh before the gap and 61 Wh after it
    tape = Tape(sample_s=10.0)
    for t in (0, 3600, 7200):
        tape.sample(t, {"Power.Active.Import": 11_000.0}, reg_wh=1000)
    assert tape.run("register_stuck") == []


def test_phases_stand_in_for_the_total_and_export_is_no_import() -> None:
    tape = Tape()
    for t in range(0, 110, 10):
        tape.sample(t, {f"Power.Active.Import@L{p}": 4000.0 for p in (1, 2, 3)}, reg_wh=1000)
    assert len(tape.run("register_stuck")) == 1
    tape = Tape()
    flow(tape, 0, 200, -11_000, 1000)
    assert tape.run("register_stuck") == []


def test_another_meter_starts_afresh() -> None:
    tape = Tape()
    flow(tape, 0, 50, 11_000, 1000)
    tape.sample(60, {"Power.Active.Import": 11_000.0}, reg_wh=1000, generation=1)
    tape.sample(70, {"Power.Active.Import": 11_000.0}, reg_wh=1000)
    assert tape.run("register_stuck") == []
