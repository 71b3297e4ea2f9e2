"""A small corpus through the whole flow: no code is found worse than it was, and nothing harmless alarms.

`chargestream score faults` measures the large one; docs/fault-score.md has its figures.
"""

from __future__ import annotations

import pytest

from models.fault_scoring import Rules
from pipeline.config import Config
from pipeline.scoring import _fault_run as fault_run
from pipeline.scoring._fault_run import Score

_SEED, _STATIONS, _HOURS = 1, 36, 6.0
#: Recall at clear severity, by code.
FLOORS = dict.fromkeys(
    (
        "broken_latch", "cable_cut", "cadence_shift", "clock_error", "connector_over_temperature",
        "ev_communication", "flapping", "lock_failure", "message_loss", "offline", "over_current",
        "over_voltage", "power_mismatch", "reboot_loop", "register_rollback", "register_stuck",
        "residual_current_trip", "station_reported", "sub_device", "under_voltage", "value_frozen",
        "voltage_dip", "voltage_unbalance", "weak_signal",
    ),
    1.0,
)  # fmt: skip


@pytest.fixture(scope="module")
def score(tmp_path_factory: pytest.TempPathFactory) -> Score:
    setting = fault_run.Setting(_SEED, _STATIONS, _HOURS, severities=("clear",))
    out = tmp_path_factory.mktemp("floors")
    return fault_run.simulated(Config(), setting, ("corpus",), Rules(), out, lambda text: None)


@pytest.mark.parametrize("code", sorted(FLOORS))
def test_recall_is_not_below_its_floor(score: Score, code: str) -> None:
    assert score.faults is not None
    cell = score.faults.cells[code]["clear"]
    assert cell.recall >= FLOORS[code], [t for t in score.faults.missed if t.code == code]


def test_nothing_is_false(score: Score) -> None:
    assert score.faults is not None
    assert score.faults.false == []


def test_what_only_looks_like_a_fault_is_silent(score: Score) -> None:
    assert len(score.scenes) == 10
    assert {scene.name: scene.found for scene in score.scenes if scene.found} == {}
