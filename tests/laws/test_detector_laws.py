"""Laws that every detector plug-in must keep; one without a naive twin fails."""

from __future__ import annotations

import copy
import importlib
import random
from dataclasses import fields, replace
from functools import lru_cache
from typing import Any

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from models import detecting, plugins
from models.channels import N_CHANNELS
from models.detecting import EVIDENCE_WIDTH, SEVERITIES, Detector, Emission, Emissions, Observed
from models.detectors._kernels import ROOM
from models.errors import ConfigError, SnapshotError
from models.faults import FAULTS
from tests.laws.streams import batches
from tests.laws.teller import Profile, story
from tests.naive.plain import Expected

NAMES = plugins.names("models.detectors")
#: A story comes from its seed: shrinking the seed would not make it smaller.
PHASES = (Phase.explicit, Phase.generate)
KINDS = {1: "raise", 2: "update", 3: "clear"}

profiles = st.builds(
    Profile,
    seed=st.integers(0, 2**32 - 1),
    cadence_s=st.sampled_from([1.0, 5.0, 20.0, 60.0, 300.0, 900.0]),
    hostility=st.sampled_from([0.1, 0.5, 1.0]),
)


def build(name: str, state: dict[str, Any] | None = None) -> Detector:
    """Return the detector with its defaults, but for what its twin says in `LAW_CONFIG`.

    Stories last hours: a detector that learns for weeks is told to learn faster.
    """
    module = plugins.load("models.detectors", name)
    settings = getattr(importlib.import_module(f"tests.naive.{name}"), "LAW_CONFIG", {})
    detector: Detector = module.build(module.Config(**settings), state)
    return detector


def feed(detector: Detector, seen: Observed) -> list[Emission]:
    """Return what one batch makes the detector emit."""
    out = Emissions()
    detector.process(seen, out)
    return out.drain()


def run(name: str, batched: list[Observed]) -> list[Emission]:
    """Return all emissions of a story that is cut into batches."""
    detector = build(name)
    return [e for seen in batched for e in feed(detector, seen)]


@lru_cache(maxsize=64)
def cut(profile: Profile, seed: int = 0, n: int = 0) -> list[Observed]:
    """Return the story of `profile`, cut at n random places; detectors may not change it."""
    told = story(profile)
    end = max(m.order for m in told.messages)
    return batches(told, random.Random(seed).sample(range(1, end + 1), min(n, end)))


def ordered(emissions: list[Emission]) -> list[Emission]:
    """Return emissions in the order in which one batch would give them."""
    return sorted(emissions, key=lambda e: (e.order, e.code, e.scope, e.subject, e.time_ns, e.kind))


@pytest.mark.parametrize("name", NAMES)
def test_spec_is_complete(name: str) -> None:
    module = plugins.load("models.detectors", name)
    spec = module.SPEC
    assert spec.code == name or spec.code in NAMES  # a second source of another's code
    assert spec.code in FAULTS
    assert spec.scope in FAULTS[spec.code].scopes
    assert 0 < len(spec.evidence) <= EVIDENCE_WIDTH
    assert len(set(spec.evidence)) == len(spec.evidence)
    assert all(0 <= channel < N_CHANNELS for channel in spec.channels)
    assert spec.nan_rule == "ignore"


@pytest.mark.parametrize("name", NAMES)
def test_config_is_documented_frozen_and_checked(name: str) -> None:
    module = plugins.load("models.detectors", name)
    config = module.Config()
    text = module.Config.__doc__
    for field in fields(config):
        assert field.name in text, f"{name}: {field.name} is not in the docstring"
        with pytest.raises(ConfigError, match=field.name):
            replace(config, **{field.name: float("nan")})
    described = [part for part in text.split("\n    ") if "Unit:" in part]
    assert described
    assert text.count("Unit:") == text.count("Default") == text.count("Source:")
    with pytest.raises(AttributeError):
        setattr(config, fields(config)[0].name, 1)


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=3, phases=PHASES)
@given(profile=profiles, seed=st.integers(0, 1000))
def test_any_split_gives_equal_output(name: str, profile: Profile, seed: int) -> None:
    whole = ordered(run(name, cut(profile)))
    for n in (1, 40):
        assert ordered(run(name, cut(profile, seed, n))) == whole


@pytest.mark.parametrize("name", NAMES)
def test_a_batch_per_message_gives_equal_output(name: str) -> None:
    profile = Profile(11, 60.0, 1.0)
    assert ordered(run(name, cut(profile, 0, 10**9))) == ordered(run(name, cut(profile)))


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=2, phases=PHASES)
@given(profile=profiles, seed=st.integers(0, 1000))
def test_restored_detector_goes_on_equally(name: str, profile: Profile, seed: int) -> None:
    straight, hopping = build(name), build(name)
    for seen in cut(profile, seed, 25):
        expected = feed(straight, seen)
        saved = plain(hopping.snapshot())
        frozen = copy.deepcopy(saved)
        hopping = build(name, saved)
        assert feed(hopping, seen) == expected
        same(saved, frozen)  # a snapshot is a copy: going on does not change it
        same(plain(hopping.snapshot()), plain(straight.snapshot()))


def plain(value: Any) -> Any:
    """Return a copy of a snapshot, refusing what is not plain data."""
    if isinstance(value, dict):
        assert all(isinstance(key, str) for key in value)
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, np.ndarray):
        assert value.dtype.kind in "iufb"
        return value.copy()
    assert value is None or type(value) in {int, float, str, bool}, f"{type(value)} in a snapshot"
    return value


def same(a: Any, b: Any) -> None:
    """Assert that two snapshots are equal, arrays and NaN included."""
    if isinstance(a, dict):
        assert a.keys() == b.keys()
        for key in a:
            same(a[key], b[key])
    elif isinstance(a, list):
        assert len(a) == len(b)
        for x, y in zip(a, b, strict=True):
            same(x, y)
    elif isinstance(a, np.ndarray):
        np.testing.assert_array_equal(a, b)
    else:
        assert a == b


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=2, phases=PHASES)
@given(profile=profiles)
def test_interleaved_devices_equal_separate_ones(name: str, profile: Profile) -> None:
    separate = [e for batched in apart(profile, _unit(name)) for e in run(name, batched)]
    assert ordered(separate) == ordered(run(name, cut(profile)))


@lru_cache(maxsize=16)
def apart(profile: Profile, unit: str) -> list[list[Observed]]:
    """Return the story of each site, node or EVSE, as if the others were silent."""
    told = story(profile)
    out = []
    sites = range(len(told.sites)) if unit == "site" else range(len(told.nodes))
    for part in sites:
        nodes = {n for n, (site, _) in enumerate(told.nodes) if (site if unit == "site" else n) == part}
        rows = [r for r in told.readings if r.about.node in nodes]
        for evse in sorted({r.about.row for r in rows}) if unit == "evse" else [-1]:
            alone = replace(
                told,
                readings=[r for r in rows if evse in {-1, r.about.row}],
                messages=[m for m in told.messages if m.node in {-1, *nodes}],
                records=[r for r in told.records if r.at.node_row in {-1, *nodes}],
            )
            out.append(batches(alone))
    return out


def _unit(name: str) -> str:
    """Return whose story a detector may be told apart: what it says of it depends on nothing else."""
    spec = plugins.load("models.detectors", name).SPEC
    if spec.peers or spec.scope == "site":
        return "site"
    return "node" if _about_nodes(name) or spec.scope != "evse" else "evse"


def _about_nodes(name: str) -> bool:
    """Return whether EVSEs do not stand for themselves: it reads messages or records, or judges stations."""
    spec = plugins.load("models.detectors", name).SPEC
    return not spec.channels or spec.scope != "evse"


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=2, phases=PHASES)
@given(profile=profiles)
def test_inputs_stay_untouched(name: str, profile: Profile) -> None:
    detector = build(name)
    for seen in cut(profile, 1, 5):
        before = [a.copy() for a in _arrays(seen)]
        records = list(seen.records)
        feed(detector, seen)
        for old, new in zip(before, _arrays(seen), strict=True):
            np.testing.assert_array_equal(old, new)
        assert records == seen.records
        for channel in set(range(N_CHANNELS)) - seen.rows.present:
            assert np.isnan(seen.rows.column(channel)).all()  # one array serves them all


def _arrays(seen: Observed) -> list[Any]:
    rows, messages, devices = seen.rows, seen.messages, seen.devices.snapshot()
    columns = [getattr(o, f.name) for o in (rows, messages) for f in fields(o) if f.init]
    return columns + [v for v in devices.values() if isinstance(v, np.ndarray)]


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=2, phases=PHASES)
@given(profile=profiles)
def test_missing_values_say_nothing(name: str, profile: Profile) -> None:
    """A reading with nothing but NaN in it, of any EVSE and between any two others, changes nothing."""
    if not plugins.load("models.detectors", name).SPEC.channels:
        pytest.skip("reads no channels: messages and records have no missing values")
    assert ordered(run(name, with_empty_readings(profile))) == ordered(run(name, cut(profile)))


@lru_cache(maxsize=16)
def with_empty_readings(profile: Profile) -> list[Observed]:
    """Return the story with readings that hold nothing but NaN."""
    told = story(profile)
    empty = []
    for reading in told.readings[::3]:
        values = dict.fromkeys(reading.values, float("nan"))
        empty.append(replace(reading, time_ns=reading.time_ns + 1, values=values, reg_mwh=None))
    return batches(replace(told, readings=told.readings + empty))


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=6, phases=PHASES)
@given(profile=profiles)
def test_equals_its_naive_twin(name: str, profile: Profile) -> None:
    twin = importlib.import_module(f"tests.naive.{name}")
    compare(run(name, cut(profile)), twin.emissions(story(profile)))


def compare(got: list[Emission], expected: list[Expected]) -> None:
    """Assert that emissions are what the twin says, evidence included."""

    def key(e: Expected) -> tuple[Any, ...]:
        return (e.order, e.code, e.scope, e.subject, e.time_ns, e.kind, e.taxonomy or "")

    plain_got = [
        Expected(
            e.order,
            e.code,
            e.scope,
            e.subject,
            KINDS[e.kind],
            SEVERITIES[e.severity],
            e.live,
            e.start_ns,
            e.time_ns,
            e.evidence,
            e.planned,
            e.taxonomy,
        )
        for e in got
    ]
    for mine, theirs in zip(sorted(plain_got, key=key), sorted(expected, key=key), strict=False):
        assert mine._replace(evidence={}) == theirs._replace(evidence={})
        numbers = {k: v for k, v in theirs.evidence.items() if isinstance(v, int | float)}
        assert {k: v for k, v in mine.evidence.items() if k in numbers} == pytest.approx(
            numbers, rel=1e-6, abs=1e-5
        )
        assert {k: v for k, v in mine.evidence.items() if k not in numbers} == {
            k: v for k, v in theirs.evidence.items() if k not in numbers
        }
    assert len(plain_got) == len(expected)


def test_streams_provoke_every_detector() -> None:
    """The laws mean something only if the streams make every detector raise and clear."""
    missing = {(name, kind) for name in NAMES for kind in (1, 3)}
    kinds = ((1.0, 1.0), (20.0, 1.0), (300.0, 0.2), (20.0, 0.5), (60.0, 0.5), (900.0, 0.1))
    for profile in [Profile(seed, *kind) for seed in range(8) for kind in kinds]:
        for name in sorted({name for name, _ in missing}):
            missing -= {(name, e.kind) for e in run(name, cut(profile))}
    assert missing == set()


@pytest.mark.parametrize("name", NAMES)
def test_snapshot_of_another_version_is_refused(name: str) -> None:
    state = build(name).snapshot()
    with pytest.raises(SnapshotError, match="version"):
        build(name, state | {"version": 99})
    with pytest.raises(SnapshotError, match=name):
        build(name, state | {"code": "other"})


@pytest.mark.parametrize("name", NAMES)
def test_many_emissions_of_one_batch_all_fit(name: str) -> None:
    """More emissions than the arrays have room for: they grow, and nothing is lost or doubled."""
    batched = cut(Profile(7, 20.0, 1.0))
    tight = Emissions(detecting._arrays(ROOM))
    detector = build(name)
    for seen in batched:
        detector.process(seen, tight)
    assert ordered(tight.drain()) == ordered(run(name, batched))
