"""learned_session: raise, clear, promotion, shadow, and what it costs without a model."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models.batch import CHARGING, IN_TRANSACTION, STATE_KNOWN
from models.detecting import Emission, Emissions
from models.detectors import learned_session as plugin
from models.errors import ConfigError
from models.learned.model_file import save
from models.records import Operator
from tests.laws.streams import batches
from tests.laws.teller import Profile, story
from tests.naive.learned_session import FOLDER, LAW_CONFIG, MODEL, OTHER, model
from tests.naive.plain import Story
from tests.unit.detector_tape import Tape, at_ns

INSIDE = STATE_KNOWN | IN_TRANSACTION | CHARGING
HOUR = 3600.0


def session(tape: Tape, begin: float, hours: float, step: float, watts: Any) -> float:
    """Record a session whose power is `watts` of the share of its time; return when it is over."""
    n = max(3, round(hours * HOUR / step))
    for k in range(n + 1):
        t = begin + k * hours * HOUR / n
        tape.sample(t, {"Power.Active.Import": watts(k / n), "Temperature/Cable": 20.0}, state=INSIDE)
    tape.sample(begin + hours * HOUR + step, {"Power.Active.Import": 0.0}, state=STATE_KNOWN)
    return begin + hours * HOUR + 2 * step


def flat(share: float) -> float:
    """Return full power from the begin to the end."""
    return 7000.0


def usual(share: float) -> float:
    """Return what the model by hand was made for: half power, a few swings."""
    return 7000.0 if share < 0.5 else 100.0


def run(told: Story, **config: Any) -> list[Emission]:
    """Return what the detector emits on a tape."""
    detector = plugin.build(plugin.Config(**(LAW_CONFIG | config)))
    out = Emissions()
    for seen in batches(told):
        detector.process(seen, out)
    return out.drain()


@pytest.mark.parametrize("step", [1.0, 20.0, 60.0, 900.0])
def test_raises_when_an_unusual_session_ends_and_clears_with_a_usual_one(step: float) -> None:
    tape = Tape()
    end = session(tape, 0.0, 0.9, step, usual)
    begin = end
    end = session(tape, begin, 9.0, step, flat)
    session(tape, end, 0.9, step, usual)
    raised, cleared = run(tape.story)
    assert (raised.kind, cleared.kind) == (1, 3)
    assert raised.start_ns == cleared.start_ns == at_ns(begin)
    assert raised.evidence["feature"] == "duration_h"
    assert raised.evidence["value"] == pytest.approx(9.0)
    assert raised.evidence["model"] == MODEL.model_id
    assert raised.evidence["score"] > raised.evidence["level"]


def test_without_a_folder_it_is_silent_and_keeps_nothing() -> None:
    tape = Tape()
    session(tape, 0.0, 9.0, 60.0, flat)
    detector = plugin.build(plugin.Config())
    out = Emissions()
    for seen in batches(tape.story):
        detector.process(seen, out)
    assert out.drain() == []
    assert detector.nbytes() == 0


def promoted(seed: int) -> Story:
    """Return a hostile story in which operators change the model now and then."""
    bodies: list[dict[str, Any]] = [
        {"model": OTHER.model_id, "shadow": MODEL.model_id},
        {"kind": "session", "model": MODEL.model_id[:8]},
        {"kind": "power", "model": ""},
        {"model": ""},
        {"shadow": ""},
        {"model": "unknown"},
        {"model": 7},
    ]
    return retold(Profile(seed, 300.0, 0.5), bodies)


def retold(profile: Profile, bodies: list[dict[str, Any]]) -> Story:
    """Return a story in which operators ask for `bodies`, one after the other, instead of some ticks."""
    told = story(profile)
    rng = random.Random(profile.seed)
    ticks = sorted(rng.sample([m for m in told.messages if m.kind == "tick"], 24), key=lambda m: m.order)
    made = {m.order: replace(m, kind="operator") for m in ticks}
    records = [
        Operator(at=_origin(m), topic="model", body=bodies[k % len(bodies)]) for k, m in enumerate(ticks)
    ]
    messages = [made.get(m.order, m) for m in told.messages]
    return replace(
        told, messages=messages, records=sorted([*told.records, *records], key=lambda r: r.at.order)
    )


def _origin(message: Any) -> Any:
    from models.records import Origin

    return Origin(
        order=message.order,
        pos=message.order,
        recv_ns=message.recv_ns,
        effect_ns=message.effect_ns,
        node_row=-1,
    )


def test_split_and_restore_across_promotions_change_nothing() -> None:
    judges = {name for seed in (1, 2, 3) for name in _split_and_restored(seed)}
    assert judges == {MODEL.model_id, OTHER.model_id}


def _split_and_restored(seed: int) -> set[str]:
    """Compare a story in one batch with one in sixty, each by a restored detector; return who judged."""
    told = promoted(seed)
    config = plugin.Config(**LAW_CONFIG)
    whole = plugin.build(config)
    expected = Emissions()
    for seen in batches(told):
        whole.process(seen, expected)
    listed = expected.drain()
    cuts = random.Random(seed).sample(range(1, len(told.messages)), 60)
    state: dict[str, Any] | None = None
    out = Emissions()
    for seen in batches(told, cuts):
        hopping = plugin.build(config, state)
        hopping.process(seen, out)
        state = hopping.snapshot()
    assert sorted(out.drain()) == sorted(listed)
    assert state is not None
    assert state["ids"] == whole.snapshot()["ids"]
    assert state["compared"] == whole.snapshot()["compared"]
    return {e.evidence["model"] for e in listed if "model" in e.evidence}


def test_shadow_is_counted_and_says_nothing() -> None:
    tape = Tape()
    session(tape, 0.0, 9.0, 60.0, flat)
    detector = plugin.build(plugin.Config(models=str(FOLDER), model="", shadow=MODEL.model_id))
    out = Emissions()
    for seen in batches(tape.story):
        detector.process(seen, out)
    assert out.drain() == []
    assert detector.compared() == {"neither": 0, "only_active": 0, "only_shadow": 1, "both": 0}


def test_configuration_that_changed_takes_over_from_what_operators_chose() -> None:
    detector = plugin.build(plugin.Config(**LAW_CONFIG))
    detector._roles.choose({"model": OTHER.model_id})
    state = detector.snapshot()
    assert plugin.build(plugin.Config(**LAW_CONFIG), state).snapshot()["ids"]["model"] == OTHER.model_id
    changed = plugin.Config(**(LAW_CONFIG | {"shadow": ""}))
    assert plugin.build(changed, state).snapshot()["ids"] == {"model": MODEL.model_id, "shadow": ""}


def test_a_changed_or_missing_model_is_refused(tmp_path: Path) -> None:
    path = save(model(0.4), tmp_path)
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(ConfigError, match="not a model file"):
        plugin.build(plugin.Config(models=str(tmp_path), model=path.stem))
    path.unlink()
    save(model(0.4), tmp_path).rename(tmp_path / "0123456789abcdef.npz")
    with pytest.raises(ConfigError, match="changed or renamed"):
        plugin.build(plugin.Config(models=str(tmp_path), model="0123"))
    with pytest.raises(ConfigError, match="no single model"):
        plugin.build(plugin.Config(models=str(tmp_path), model="ffff"))
    with pytest.raises(ConfigError, match="expected a folder"):
        plugin.Config(model="ffff")


def test_equal_models_have_equal_ids_and_any_change_another(tmp_path: Path) -> None:
    assert model().model_id == MODEL.model_id
    other = model()
    other.centre[0] = np.nextafter(other.centre[0], 1.0)
    assert other.model_id != MODEL.model_id
    assert OTHER.model_id != MODEL.model_id


def test_night_between_sessions_ends_one() -> None:
    tape = Tape()
    for begin in (0.0, 6 * HOUR):
        for k in range(61):
            tape.sample(begin + k * 60.0, {"Power.Active.Import": 7000.0}, state=INSIDE)
    detector = plugin.build(plugin.Config(models=str(FOLDER), shadow=MODEL.model_id))
    out = Emissions()
    for seen in batches(tape.story):
        detector.process(seen, out)
    assert sum(detector.compared().values()) == 1
