"""learned_power: raise, clear, what must not raise, promotion, shadow, and what it costs without a model."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import pytest

from models.batch import CHARGING, IN_TRANSACTION, STATE_KNOWN, SUSPENDED_EV
from models.detecting import Emission, Emissions
from models.detectors import learned_power as plugin
from models.errors import ConfigError
from models.records import Operator
from tests.laws.streams import batches
from tests.laws.teller import Profile
from tests.naive.learned_power import FOLDER, LAW_CONFIG, MODEL, OTHER
from tests.naive.plain import Story
from tests.unit.detector_tape import Tape, at_ns
from tests.unit.test_learned_session import retold

INSIDE = STATE_KNOWN | IN_TRANSACTION | CHARGING
FULL_W = 3680.0
#: channels besides power: 16 A are offered and taken
TAKEN = {"Current.Import@L1": 16.0, "Current.Offered": 16.0, "SoC": 40.0}


def charge(tape: Tape, begin: float, end: float, step: float, share: float, **change: Any) -> None:
    """Record a share of full power from begin to end, s."""
    state = change.pop("state", INSIDE)
    values = TAKEN | {"Current.Import@L1": 16.0 * share} | change
    t = begin
    while t < end:
        known = {name: v for name, v in values.items() if v is not None}
        tape.sample(t, {"Power.Active.Import": FULL_W * share} | known, state=state)
        t += step


def run(told: Story, **config: Any) -> list[Emission]:
    """Return what the detector emits on a story."""
    detector = plugin.build(plugin.Config(**(LAW_CONFIG | config)))
    out = Emissions()
    for seen in batches(told):
        detector.process(seen, out)
    return out.drain()


@pytest.mark.parametrize("step", [1.0, 20.0, 60.0, 900.0])
def test_raises_when_power_falls_below_the_band_and_clears_inside(step: float) -> None:
    tape, unit = Tape(), max(600.0, 4 * step)
    charge(tape, 0.0, unit, step, 1.0)
    charge(tape, unit, 2 * unit, step, 0.4)
    charge(tape, 2 * unit, 3 * unit + step, step, 1.0)
    raised, cleared = run(tape.story)
    assert (raised.kind, cleared.kind) == (1, 3)
    assert raised.start_ns == cleared.start_ns == at_ns(unit)
    assert raised.effect_ns >= at_ns(unit + 60.0)
    assert cleared.time_ns == at_ns(2 * unit)
    shares = {name: raised.evidence[name] / FULL_W for name in ("power_w", "low_w", "usual_w", "high_w")}
    assert shares == pytest.approx({"power_w": 0.4, "low_w": 0.55, "usual_w": 0.9, "high_w": 1.05})
    assert raised.evidence["model"] == MODEL.model_id


def test_the_end_of_the_session_clears() -> None:
    tape = Tape()
    charge(tape, 0.0, 600.0, 20.0, 1.0)
    charge(tape, 600.0, 1200.0, 20.0, 0.4)
    tape.sample(1200.0, {"Power.Active.Import": 0.0}, state=STATE_KNOWN)
    assert [e.kind for e in run(tape.story)] == [1, 3]


def test_above_the_band_raises_only_under_the_offer_of_the_first_minutes() -> None:
    for offer, expected in ((16.0, [1]), (32.0, [])):
        tape = Tape()
        charge(tape, 0.0, 600.0, 20.0, 1.0)
        charge(tape, 600.0, 1200.0, 20.0, 1.5, **{"Current.Offered": offer})
        assert [e.kind for e in run(tape.story)] == expected


@pytest.mark.parametrize(
    ("share", "change"),
    [
        (0.3, {"Current.Offered": 5.0}),  # throttled: no more than that is offered
        (0.2, {"Current.Offered": 3.5}),  # below the band's lower edge of a quarter, but so is the offer
        (0.4, {"Current.Offered": None}),  # nobody knows what is offered
        (0.4, {"state": INSIDE | SUSPENDED_EV}),
        (0.02, {}),  # a full car that stays, asleep
        (0.56, {}),  # just inside the band
    ],
)
def test_what_is_explained_stays_silent(share: float, change: dict[str, Any]) -> None:
    tape = Tape()
    charge(tape, 0.0, 600.0, 20.0, 1.0)
    charge(tape, 600.0, 3600.0, 20.0, share, **change)
    assert run(tape.story) == []


def test_a_minute_outside_is_too_short() -> None:
    tape = Tape()
    for begin in range(0, 3600, 300):
        charge(tape, begin, begin + 60.0, 20.0, 0.4 if begin else 1.0)
        charge(tape, begin + 60.0, begin + 300.0, 20.0, 1.0)
    assert run(tape.story) == []


def test_without_a_folder_it_is_silent_and_keeps_nothing() -> None:
    tape = Tape()
    charge(tape, 0.0, 600.0, 20.0, 1.0)
    charge(tape, 600.0, 1200.0, 20.0, 0.4)
    detector = plugin.build(plugin.Config())
    out = Emissions()
    for seen in batches(tape.story):
        detector.process(seen, out)
    assert (out.drain(), detector.nbytes(), detector.running()) == ([], 0, None)
    with pytest.raises(ConfigError, match="expected a folder"):
        plugin.Config(model="ffff")


def test_shadow_is_counted_and_says_nothing() -> None:
    tape = Tape()
    for begin in (0.0, 3600.0):  # the second model's band is wider: 0.52 of full power lies within
        charge(tape, begin, begin + 600.0, 20.0, 1.0)
        charge(tape, begin + 600.0, begin + 1200.0, 20.0, 0.52 if begin else 0.3)
        tape.sample(begin + 1200.0, {"Power.Active.Import": 0.0}, state=STATE_KNOWN)
    detector = plugin.build(plugin.Config(**LAW_CONFIG))
    out = Emissions()
    for seen in batches(tape.story):
        detector.process(seen, out)
    assert [e.kind for e in out.drain()] == [1, 3, 1, 3]
    said = detector.running()
    assert said is not None
    assert said["compared"] == {"neither": 0, "only_active": 1, "only_shadow": 0, "both": 1}
    assert [sum(row) for row in said["counts"]] == [2] * 4


def test_split_and_restore_across_promotions_change_nothing() -> None:
    judges = {name for seed in (4, 6) for name in _split_and_restored(seed)}
    assert judges == {MODEL.model_id, OTHER.model_id}


def promoted(seed: int) -> Story:
    """Return a hostile story in which operators change the model now and then."""
    bodies: list[dict[str, Any]] = [
        {"kind": "power", "model": OTHER.model_id, "shadow": MODEL.model_id},
        {"kind": "power", "model": MODEL.model_id[:8]},
        {"kind": "session", "model": ""},
        {"model": ""},
        {"kind": "power", "shadow": ""},
        {"kind": "power", "model": "unknown"},
        {"kind": "power", "model": ""},
        {"kind": "power", "model": OTHER.model_id},
    ]
    return retold(Profile(seed, 20.0, 1.0), bodies)


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
    assert sorted(out.drain(), key=str) == sorted(listed, key=str)
    assert state is not None
    for name in ("ids", "compared", "refused"):
        assert state[name] == whole.snapshot()[name]
    assert (state["seen"] == whole.snapshot()["seen"]).all()
    return {e.evidence["model"] for e in listed if "model" in e.evidence}


def test_what_cannot_be_done_is_shown() -> None:
    tape = Tape()
    tape.message(0.0, -1, "operator")
    tape.record(
        Operator(at=tape.message(1.0, -1, "operator"), topic="model", body={"kind": "power", "model": "zz"})
    )
    detector = plugin.build(plugin.Config(models=str(FOLDER), model=MODEL.model_id))
    out = Emissions()
    for seen in batches(tape.story):
        detector.process(seen, out)
    said = detector.running()
    assert said is not None
    assert (said["model"], said["refused"]) == (MODEL.model_id, "zz")
    assert replace(plugin.Config(), models=str(FOLDER)).model == ""
