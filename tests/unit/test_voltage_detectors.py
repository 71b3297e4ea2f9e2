"""under_voltage, over_voltage and voltage_dip: exact limits on both sides, windows, inventory, silence."""

from __future__ import annotations

import pytest

from models.detecting import WARNING
from models.detectors import over_voltage, under_voltage
from models.errors import ConfigError
from tests.unit.detector_tape import Tape, brief

PHASES = ("Voltage@L1-N", "Voltage@L2-N", "Voltage@L3-N")


def volts(*values: float) -> dict[str, float]:
    return dict(zip(PHASES, values, strict=False))


def steady(
    tape: Tape, start: float, end: float, values: dict[str, float], step: float = 10.0, **kw: bool
) -> None:
    t = start
    while t < end:
        tape.sample(t, values, **kw)
        t += step


@pytest.mark.parametrize(
    ("code", "at_limit", "beyond"),
    [("under_voltage", 207.0, 206.9), ("over_voltage", 253.0, 253.1)],
)
def test_ten_minute_mean_at_the_limit_is_lawful(code: str, at_limit: float, beyond: float) -> None:
    for value, expected in ((at_limit, []), (beyond, [("raise", 0.0, 590.0)])):
        tape = Tape()
        steady(tape, 0, 610, volts(230, value, 230))
        assert brief(tape.run(code)) == expected


@pytest.mark.parametrize(
    ("code", "at_limit", "beyond"),
    [("under_voltage", 195.5, 195.4), ("over_voltage", 264.5, 264.6)],
)
def test_one_minute_mean_at_the_limit_is_lawful(code: str, at_limit: float, beyond: float) -> None:
    for value, expected in ((at_limit, []), (beyond, [("raise", 60.0, 110.0)])):
        tape = Tape()
        steady(tape, 0, 60, volts(230, 230, 230))
        steady(tape, 60, 120, volts(230, 230, value))
        steady(tape, 120, 130, volts(230, 230, 230))
        assert brief(tape.run(code)) == expected


def test_evidence_names_phase_mean_and_window() -> None:
    tape = Tape()
    steady(tape, 0, 610, volts(230, 204, 230))
    (found,) = tape.run("under_voltage")
    assert found.evidence == {
        "voltage_mean_v": 204.0,
        "u_n_v": 230.0,
        "limit_v": 207.0,
        "window_s": 600.0,
        "phase": 2.0,
        "samples": 60.0,
    }
    assert (found.severity, found.subject) == (WARNING, 0)
    assert found.score == pytest.approx(26 / 23)


def test_ten_minutes_need_three_samples_and_a_minute_takes_what_it_has() -> None:
    tape = Tape()
    for t in (0, 300, 600):
        tape.sample(t, volts(200, 200, 200))
    assert tape.run("under_voltage") == []
    tape = Tape()
    for t in (0, 200, 400, 600):
        tape.sample(t, volts(200, 200, 200))
    assert brief(tape.run("under_voltage")) == [("raise", 0.0, 400.0)]
    tape = Tape()
    tape.sample(0, volts(190, 230, 230))
    tape.sample(900, volts(230, 230, 230))
    assert brief(tape.run("under_voltage")) == [("raise", 0.0, 0.0)]


def test_clears_after_a_whole_good_window() -> None:
    tape = Tape()
    steady(tape, 0, 600, volts(200, 230, 230))
    steady(tape, 600, 1210, volts(230, 230, 230))
    assert brief(tape.run("under_voltage")) == [("raise", 0.0, 590.0), ("clear", 0.0, 600.0)]
    assert [e.order for e in tape.run("under_voltage")] == [60, 120]
    tape = Tape()
    steady(tape, 0, 60, volts(190, 230, 230))
    steady(tape, 60, 130, volts(230, 230, 230))
    assert brief(tape.run("under_voltage")) == [("raise", 0.0, 50.0), ("clear", 0.0, 60.0)]


@pytest.mark.parametrize("values", [volts(0, 0, 0), volts(3, 2, 11.4), {}])
def test_a_reading_without_supply_says_nothing(values: dict[str, float]) -> None:
    tape = Tape()
    steady(tape, 0, 700, values)
    tape.sample(700, volts(230, 230, 230))
    assert tape.run("under_voltage") == []
    assert tape.run("voltage_dip") == []


def test_one_dead_phase_is_low_voltage() -> None:
    tape = Tape()
    steady(tape, 0, 130, volts(230, 0, 230))
    assert brief(tape.run("under_voltage")) == [("raise", 0.0, 50.0)]


def test_dc_output_is_never_grid_voltage() -> None:
    tape = Tape(dc=True)
    steady(tape, 0, 700, {"Voltage": 400.0, "Voltage/EV": 398.0} | volts(100, 100, 100))
    assert tape.run("under_voltage") == []
    assert tape.run("over_voltage") == []
    tape = Tape(dc=True)
    steady(tape, 0, 610, {f"{name}/Inlet": 200.0 for name in PHASES})
    assert len(tape.run("under_voltage")) == 1


@pytest.mark.parametrize(("phases", "found"), [(1, 1), (3, 0), (0, 0)])
def test_voltage_without_phase_counts_on_single_phase_only(phases: int, found: int) -> None:
    tape = Tape(phases=phases)
    steady(tape, 0, 610, {"Voltage": 200.0})
    assert len(tape.run("under_voltage")) == found


@pytest.mark.parametrize("value", [100.0, 120.0, 127.0, 190.0, 208.0, 230.0, 240.0, 252.0, 263.0])
def test_undeclared_evse_on_any_common_grid_is_quiet(value: float) -> None:
    tape = Tape(declared=False)
    steady(tape, 0, 1210, volts(value, value, value))
    assert tape.run("under_voltage") == []
    assert tape.run("over_voltage") == []
    assert tape.run("voltage_dip") == []


@pytest.mark.parametrize(("value", "code"), [(186.0, "under_voltage"), (265.0, "over_voltage")])
def test_undeclared_evse_beyond_every_grid_is_found(value: float, code: str) -> None:
    tape = Tape(declared=False)
    steady(tape, 0, 610, volts(value, value, value))
    assert len(tape.run(code)) == 1


def test_backlog_is_not_live_and_is_raised_again_when_it_still_holds() -> None:
    tape = Tape()
    steady(tape, 0, 600, volts(200, 230, 230), live=False)
    steady(tape, 600, 1210, volts(200, 230, 230))
    found = tape.run("under_voltage")
    assert [(e.live, e.start_ns) for e in found] == [(False, found[0].start_ns), (True, found[0].start_ns)]


def test_a_window_judged_long_after_its_end_is_not_live() -> None:
    for later, live in ((1500, True), (1510, False)):
        tape = Tape()
        steady(tape, 0, 60, volts(190, 230, 230))
        tape.sample(later, volts(230, 230, 230))
        assert [e.live for e in tape.run("under_voltage")] == [live]


def test_limits_in_the_wrong_order_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"one_min_pu = 0.95 is above ten_min_pu"):
        under_voltage.Config(one_min_pu=0.95)
    with pytest.raises(ConfigError, match=r"one_min_pu = 1.05 is below ten_min_pu"):
        over_voltage.Config(one_min_pu=1.05)


def test_dip_is_raised_at_recovery_and_clears_a_minute_later() -> None:
    tape = Tape()
    for t, v in ((0, 230), (10, 206.9), (20, 150), (30, 207.0), (40, 230), (89, 230), (90, 230)):
        tape.sample(t, volts(230, v, 230))
    found = tape.run("voltage_dip")
    assert brief(found) == [("raise", 10.0, 30.0), ("clear", 10.0, 30.0)]
    assert [e.order for e in found] == [3, 6]
    assert found[0].evidence == {
        "voltage_min_v": 150.0,
        "u_n_v": 230.0,
        "limit_v": 207.0,
        "duration_s": 20.0,
        "phase": 2.0,
    }


@pytest.mark.parametrize(("recovers", "found"), [(70.0, 1), (70.1, 0)])
def test_a_dip_lasts_a_minute_at_most(recovers: float, found: int) -> None:
    tape = Tape()
    tape.sample(10, volts(200, 230, 230))
    tape.sample(recovers, volts(230, 230, 230))
    assert len(tape.run("voltage_dip")) == found


@pytest.mark.parametrize(("sample_s", "found"), [(20.0, 1), (20.1, 0), (None, 0)])
def test_dips_need_fast_samples(sample_s: float | None, found: int) -> None:
    tape = Tape(sample_s=sample_s)
    for t, v in ((0, 230), (10, 200), (20, 230)):
        tape.sample(t, volts(v, 230, 230))
    assert len(tape.run("voltage_dip")) == found
