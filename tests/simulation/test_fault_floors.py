"""A small corpus through the whole flow: no code is found worse than it was, and nothing harmless alarms.

`chargestream score faults` measures the large one; docs/fault-score.md has its figures.
"""

from __future__ import annotations

import pytest

from connectors.simulator.faults import FAULTS
from models.fault_scoring import Rules
from pipeline.config import Config
from pipeline.scoring import _fault_run as fault_run
from pipeline.scoring._fault_run import Score

pytestmark = pytest.mark.timeout(600)  # the first flow of a machine compiles every kernel

_SEED, _STATIONS, _HOURS = 1, 36, 6.0
#: What takes longer than these hours to learn, or to happen three times.
_SLOW = {"contact_resistance", "source_impedance", "conductor_aging", "start_failures"}
#: Recall at clear severity, by code.
FLOORS = dict.fromkeys(FAULTS.keys() - _SLOW, 1.0)


@pytest.fixture(scope="module")
def score(tmp_path_factory: pytest.TempPathFactory) -> Score:
    setting = fault_run.Setting(_SEED, _STATIONS, _HOURS, severities=("clear",), lasts=0.6)
    out = tmp_path_factory.mktemp("floors")
    return fault_run.simulated(Config(), setting, ("corpus",), Rules(), out, lambda text: None)


@pytest.mark.parametrize("code", sorted(FLOORS))
def test_recall_is_not_below_its_floor(score: Score, code: str) -> None:
    assert score.faults is not None
    cell = score.faults.cells[code]["clear"]
    assert cell.recall >= FLOORS[code], [t for t in score.faults.missed if t.code == code]


def test_only_what_is_slow_is_left_out(score: Score) -> None:
    assert {code for code, _ in score.left_out} == _SLOW


def test_nothing_is_false(score: Score) -> None:
    assert score.faults is not None
    assert score.faults.false == []


def test_what_only_looks_like_a_fault_is_silent(score: Score) -> None:
    assert len(score.scenes) == 10
    assert {scene.name: scene.found for scene in score.scenes if scene.found} == {}
