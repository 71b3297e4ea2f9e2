"""Laws of wear: as the naive twin, however the stream is cut, and over a restart."""

from __future__ import annotations

import random
from dataclasses import replace
from functools import cache
from typing import Any

import msgspec
import pytest

from models.detecting import Observed
from models.outputs import InspectionRow, WearRow
from models.records import Operator, Status, Transaction
from models.wear import Wear, WearConfig
from tests.laws.streams import batches
from tests.laws.teller import Profile, story
from tests.naive import wear as naive
from tests.naive.plain import S, Story

PROFILES = (Profile(3, 20.0), Profile(4, 300.0, 0.6))
QUARTER = 900 * S

Told = tuple[list[WearRow], list[InspectionRow]]


@cache
def told(profile: Profile) -> Story:
    """Return a story in which technicians come by."""
    heard = story(profile)
    made = replace(heard, records=list(heard.records))
    rng = random.Random(profile.seed)
    at = sorted({r.at.order: r.at for r in made.records}.values(), key=lambda a: a.order)
    for k, origin in enumerate(rng.sample(at, 6)):
        site_row, station, _ = made.stations[rng.randrange(len(made.stations))]
        body = {
            "site": made.sites[site_row],
            "station": station,
            "by": "ann",
            "what": "inspected",
            "id": str(k),
        }
        made.records.append(Operator(at=origin, topic="maintenance", body=body))
    made.records.sort(key=lambda r: r.at.order)
    return made


def run(cut: list[Observed], restart_at: int = -1) -> Told:
    """Return all that is put out; the state is saved and loaded after batch `restart_at`."""
    wear, rows, done = Wear(WearConfig()), [], []
    for k, seen in enumerate(cut):
        more, worked = wear.process(seen.rows, seen.messages, seen.records, seen.devices)
        rows += more
        done += worked
        if k == restart_at:
            state: dict[str, Any] = wear.snapshot()
            wear = Wear(WearConfig(), state)
            # as after a restart: nothing but the state is left
            wear.process(*_nothing(seen))
    return rows + wear.flush(), done


def _nothing(seen: Observed) -> tuple[Any, Any, list[Any], Any]:
    empty = seen.rows.take([])  # type: ignore[arg-type]  # any index will do
    return empty, seen.messages.take([]), [], seen.devices  # type: ignore[arg-type]


@pytest.mark.parametrize("profile", PROFILES)
def test_any_split_and_a_restart_give_equal_output(profile: Profile) -> None:
    made = told(profile)
    whole = run(batches(made))
    assert len(whole[0]) > 30
    assert len(whole[1]) >= 6
    rng = random.Random(profile.seed)
    end = max(m.order for m in made.messages)
    for n in (2, 40, end // 3):
        cut = batches(made, sorted(rng.sample(range(1, end), n)))
        assert run(cut, restart_at=rng.randrange(len(cut))) == whole


@pytest.mark.parametrize("profile", PROFILES)
def test_equals_its_naive_twin(profile: Profile) -> None:
    made = told(profile)
    wear = Wear(WearConfig())
    rows: list[WearRow] = []
    for seen in batches(made, range(0, 10_000, 700)):
        rows += wear.process(seen.rows, seen.messages, seen.records, seen.devices)[0]
    rows += wear.flush()
    counts = [0] * 7
    for row, (station, number) in enumerate(made.evses):
        events: list[tuple[int, int, Any]] = [
            (r.order, r.time_ns, r) for r in made.readings if r.about.row == row
        ]
        events += [
            (r.at.order, 0, r)
            for r in made.records
            if isinstance(r, Status | Transaction) and r.evse_row == row
        ]
        expected = naive.wear(event for _, _, event in sorted(events, key=lambda e: e[:2]))
        assert msgspec.structs.astuple(wear.counts(row)) == expected.told()
        site_row, name, _ = made.stations[station]
        mine = [r for r in rows if (r.site, r.station, r.evse) == (made.sites[site_row], name, number)]
        # put out once a quarter hour at most, as of its end, and the last one is what is true in the end
        assert [r.time_ms % 900_000 for r in mine[:-1]] == [0] * (len(mine) - 1)
        assert len({r.time_ms for r in mine}) == len(mine)
        if mine:
            assert mine[-1].counts == wear.counts(row)
        counts = [a + (b or 0) for a, b in zip(counts, expected.told(), strict=True)]
    assert all(counts), "the streams make every count grow"


def test_an_inspection_takes_the_counts_of_its_moment() -> None:
    made = told(PROFILES[0])
    _, done = run(batches(made))
    asked = {str(r.body["id"]): r for r in made.records if isinstance(r, Operator) and "what" in r.body}
    assert {row.inspection_id for row in done} == set(asked)
    for row in done:
        order = asked[row.inspection_id].at.order
        wear = Wear(WearConfig())
        for seen in batches(made, [order]):
            if len(seen.messages) and seen.messages.order[0] >= order:
                break
            wear.process(seen.rows, seen.messages, seen.records, seen.devices)
        site = made.sites.index(row.site)
        station = next(i for i, s in enumerate(made.stations) if s[:2] == (site, row.station))
        assert row.counts == wear.counts(made.evses.index((station, row.evse)))


def test_snapshot_of_another_version_is_refused() -> None:
    from models.errors import SnapshotError

    with pytest.raises(SnapshotError, match="reads 1"):
        Wear(WearConfig(), {"version": 7})


def test_state_is_64_bytes_an_evse() -> None:
    made = told(PROFILES[0])
    wear = Wear(WearConfig())
    for seen in batches(made):
        wear.process(seen.rows, seen.messages, seen.records, seen.devices)
    assert wear.nbytes() == 64 * len(made.evses)
