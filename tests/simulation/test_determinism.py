"""The same journal gives the same results: in any batches, after crashes, live or replayed, however it came.

That a live run's ledger equals a replay of its exported journal stands in `test_cluster`, which has the
service running anyway. The logs hold what real ones hold: duplicates, overtaking messages, reconnects with
backlogs, clocks a second off, and injected faults.
"""

from __future__ import annotations

import itertools
import json
import random
from collections import Counter
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors.simulator import SimMessage, TransportConfig, mixed_fleet
from models.frame import TICK_FLAG, Frame
from pipeline.config import Config
from pipeline.config_sections import FlowSection, InfluxSection, JournalSection
from pipeline.flow import Stages
from pipeline.replay import replay

from .chain import T0_MS, Chain, Key, Outputs, fleet_messages, run_all, sharded, write_log

#: Raw points are cut down now and then, so that what decides on it matters.
CONFIG = Config(journal=JournalSection(shards=2), influx=InfluxSection(enabled=True, raw_max_rows_per_s=1))
ROUGH = TransportConfig(
    duplicate_share=0.04, reorder_share=0.2, reconnects_per_day=40.0, stalls_per_day=80.0, skew_max_ms=1500.0
)
#: code, target, begin and end in s; each shows within the hour.
FAULTS = (
    ("under_voltage", "AX01-01/1", 300.0, 1500.0),
    ("over_voltage", "CU01-01/1", 300.0, 1500.0),
    ("voltage_dip", "AX01-02/1", 300.0, 3000.0),
    ("over_current", "BO01-01/1", 600.0, 1800.0),
    ("connector_over_temperature", "AX01-04/1", 600.0, 2400.0),
    ("register_rollback", "BO01-02/1", 1200.0, 2400.0),
    ("register_stuck", "BO01-01/2", 300.0, 3000.0),
    ("offline", "AX01-03", 1500.0, 2600.0),
    ("message_loss", "CU01-01", 600.0, 3000.0),
    ("station_reported", "AX01-02", 900.0, 1800.0),
    ("lock_failure", "AX01-01/1", 2000.0, 2400.0),
)


@lru_cache(maxsize=1)
def faulty() -> list[SimMessage]:
    """Return an hour of a fleet on a rough network with every fault that has a detector."""
    fleet = mixed_fleet(8, 1, sample_s=20.0, batch_s=60.0, arrivals_per_day=24.0, transport=ROUGH)
    return fleet_messages(fleet, 1, 1.0, FAULTS)


@lru_cache(maxsize=1)
def undisturbed() -> Outputs:
    """Return what the chain makes of it."""
    return run_all(Stages.of(CONFIG, None), sharded(CONFIG, faulty()))


def test_the_log_holds_what_it_should() -> None:
    out = undisturbed()
    raised = Counter(change.code for change in out.findings.values() if change.state == "raised")
    assert raised.keys() >= {code for code, *_ in FAULTS}, raised
    assert out.open_gap() == (0, 0)
    assert sum(account.duplicate for account in out.accounts.values()) > 5
    assert any(row.revision > 1 for row in out.intervals.values())


@pytest.mark.slow
def test_batches_of_any_size_give_the_same_bytes(tmp_path: Path) -> None:
    log = write_log(faulty(), tmp_path / "log.jsonl.gz")
    wanted: dict[str, bytes] = {}
    flows = [
        (8192, 16 << 20),
        (8192, 16 << 20),
        (100, 16 << 20),
        (7, 16 << 20),
        (1, 16 << 20),
        (8192, 65_536),
    ]
    for number, (messages, size) in enumerate(flows):
        config = CONFIG.model_copy(
            update={"flow": FlowSection(batch_max_messages=messages, batch_max_bytes=size)}
        )
        out = tmp_path / str(number)
        assert replay(config, log, out)["closes"]
        names = ("findings.jsonl", "intervals.csv", "sessions.jsonl", "cdrs.jsonl", "dead.jsonl")
        got = {name: (out / name).read_bytes() for name in names}
        got["points.lp"] = b"\n".join(sorted((out / "points.lp").read_bytes().splitlines()))
        wanted = wanted or got
        for name, content in got.items():
            assert content == wanted[name], f"{name} differs for batches of {messages} messages, {size} bytes"
    assert wanted["findings.jsonl"].count(b"\n") >= 2 * len(FAULTS)
    assert wanted["intervals.csv"].count(b"\n") > 40
    assert wanted["sessions.jsonl"].count(b"\n") > 4


def piece(frame: Frame, at: int, size: int) -> int:
    """Return the end of a piece of `size` from `at`, or up to the next message: ticks alone are all alike."""
    ahead = np.flatnonzero((frame.flags[at:] & TICK_FLAG) == 0)
    return min(len(frame), at + max(size, int(ahead[0]))) if len(ahead) else len(frame)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_crash_at_any_message_changes_nothing(tmp_path: Path, seed: int) -> None:
    """State is saved and processes die at random messages, often before anything was saved since.

    What comes out again after a restart has the content it had before (`Outputs` insists), all that the
    undisturbed run gives comes, and nothing else.
    """
    rng = random.Random(seed)
    out, stages = Outputs(), Stages.of(CONFIG, None)
    crashes = holding = 0
    for shard, frame in sharded(CONFIG, faulty()).items():
        chain = Chain(stages, shard, out, tmp_path)
        saved, saved_at, at, held = None, 0, 0, False
        while at < len(frame):
            end = piece(frame, at, rng.choice((1, 2, 9)))
            chain.feed(at, frame.slice(at, end))
            at = end
            if chain.holds() or rng.random() < 0.4:
                saved, saved_at, held = chain.snapshot(), at, chain.holds()
            if rng.random() < 0.2:
                chain.restore(saved)
                at = saved_at
                crashes += 1
                holding += held
        chain.finish()
        chain.close()
    assert crashes > 20
    assert holding > 0  # messages waited for an earlier one when some state was saved
    whole = undisturbed()
    assert out.findings == whole.findings
    assert out.intervals == whole.intervals
    assert out.dead == whole.dead
    assert out.points == whole.points


@lru_cache(maxsize=1)
def healthy() -> list[SimMessage]:
    """Return forty minutes of a small fleet on a perfect network: a gateway, and a station that reboots."""
    fleet = mixed_fleet(
        7, 3, sample_s=30.0, batch_s=60.0, arrivals_per_day=48.0, transport=TransportConfig.perfect()
    )
    return fleet_messages(fleet, 3, 2 / 3, [("reboot_loop", "AX01-01", 300.0, 1500.0)])


def perturbed(
    messages: list[SimMessage], seed: int, delay_s: float, twice: float, garbage: float
) -> list[SimMessage]:
    """Return the messages as a worse network would deliver them.

    Every message is late by up to `delay_s`, so that they overtake each other within and across nodes; a
    share `twice` comes again up to a minute later, a share `garbage` is followed by nonsense.
    """
    rng = random.Random(seed)
    out: list[SimMessage] = []
    for message in messages:
        out.append(message._replace(t_ms=message.t_ms + rng.randrange(int(delay_s * 1000) + 1)))
        if message.seq >= 0 and rng.random() < twice:
            out.append(message._replace(t_ms=out[-1].t_ms + rng.randrange(60_000)))
        if rng.random() < garbage:
            out.append(nonsense(rng, message))
    return sorted(out, key=lambda m: m.t_ms)


def nonsense(rng: random.Random, after: SimMessage) -> SimMessage:
    """Return a message that cannot be decoded, on a good or a wrong topic."""
    payload = rng.choice(
        (
            rng.randbytes(rng.randrange(200)),
            after.payload[: rng.randrange(len(after.payload))],
            b"[]",
            b'{"v":1,"boot":1,"seq":"7","series":[]}',
        )
    )
    topic = rng.choice((after.topic, "evt/v1/AX01/nobody/up/meter", "evt/v1/AX01/AX01-01/up/what", "other"))
    return after._replace(topic=topic, payload=payload, t_ms=after.t_ms + rng.randrange(1000))


@lru_cache(maxsize=1)
def in_order() -> dict[Key, tuple[int | None, str]]:
    """Return the final intervals of the log as it was sent."""
    assert max(message.boot for message in healthy()) > 2
    out = run_all(Stages.of(CONFIG, None), sharded(CONFIG, healthy()))
    assert out.open_gap() == (0, 0)
    return out.final()


@settings(max_examples=40)
@given(
    seed=st.integers(0, 2**32),
    delay_s=st.floats(0.0, 1.99),
    twice=st.sampled_from([0.0, 0.1, 0.6]),
    garbage=st.sampled_from([0.0, 0.2]),
)
def test_arrival_changes_no_energy(seed: int, delay_s: float, twice: float, garbage: float) -> None:
    """Interleaving, duplication and reordering within `order.hold_s` give the same intervals; garbage too."""
    assert delay_s < CONFIG.order.hold_s
    messages = perturbed(healthy(), seed, delay_s, twice, garbage)
    out = run_all(Stages.of(CONFIG, None), sharded(CONFIG, messages))
    assert out.open_gap() == (0, 0)
    assert sum(account.messages for account in out.accounts.values()) == len(messages)
    assert len(in_order()) > 20
    assert out.final() == in_order()


NODES = (("S1", "alone", ""), ("S1", "gw", "B1"), ("S1", "gw", "B2"))  # site, node, station behind it


def _told(what: str, node: int, t_ms: int, reg_wh: float) -> dict[str, object]:
    """Return the body of a message about EVSE 1 of a station, or (``station...``) about all of it."""
    _, _, behind = NODES[node]
    st_of = {"st": behind} if behind else {}
    at = st_of | {"evse": 1, "conn": 1, "t": t_ms}
    match what:
        case "birth" | "slow birth":
            s = 60 if what == "birth" else 7200
            meter = {"serial": f"M{node}", "resolution_wh": 1}
            evses = [st_of | {"evse": 1, "u_n_v": 230, "phases": 3, "p_max_w": 22_080, "meter": meter}]
            return {"online": True, "cid": t_ms, "hb_s": 3600, "sample_s": s, "batch_s": s, "evses": evses}
        case "will":
            return {"online": False, "cid": t_ms}
        case "station unavailable" | "station available":
            return {
                "items": [st_of | {"t": t_ms, "evse": 0, "conn": 0, "status": what.split()[1].capitalize()}]
            }
        case "occupied" | "unavailable":
            return {"items": [at | {"status": what.capitalize()}]}
        case "started" | "ended":
            tx = {"txId": f"T{t_ms}", "eventType": what.capitalize(), "seqNo": 0, "reg_wh": reg_wh}
            return {"items": [at | tx | {"triggerReason": "Authorized", "chargingState": "Charging"}]}
        case "link down" | "link up":
            return {"items": [{"st": behind, "t": t_ms, "online": what == "link up"}]}
        case _:
            channels = ["Voltage@L1-N", "Power.Active.Import", "Energy.Active.Import.Register"]
            rows = [[0, 190.0, 6000.0, reg_wh]]
            return {"series": [st_of | {"evse": 1, "conn": 1, "t0": t_ms, "ch": channels, "rows": rows}]}


KINDS = {
    "birth": "conn", "slow birth": "conn", "will": "conn", "station unavailable": "status",
    "station available": "status", "occupied": "status", "unavailable": "status", "started": "tx",
    "ended": "tx", "link down": "link", "link up": "link", "reading": "meter",
}  # fmt: skip

stories = st.lists(
    st.tuples(
        st.sampled_from(sorted(KINDS)),
        st.integers(0, len(NODES) - 1),
        st.sampled_from([0, 1, 50, 130, 1500, 6000]),  # s since the message before
    ),
    min_size=3,
    max_size=25,
)


def story_messages(story: list[tuple[str, int, int]]) -> list[SimMessage]:
    """Return the messages of a story; registers run at 6 kW throughout."""
    out, now_s, seq = [], T0_MS // 1000, {"alone": 0, "gw": 0}
    born: set[str] = set()
    for what, node, wait_s in story:
        now_s += wait_s
        if KINDS[what] == "link":
            node = max(node, 1)  # only a gateway has links
        site, name, _ = NODES[node]
        if what == "will" and name not in born:
            continue  # a will is left with the broker when a connection begins
        if what.endswith("birth"):
            born.add(name)
        head = {"v": 1, "boot": 1}
        if KINDS[what] != "conn":
            seq[name] += 1
            head["seq"] = seq[name]
        body = head | _told(what, node, now_s * 1000, float(round((now_s - T0_MS // 1000) / 0.6)))
        topic = f"evt/v1/{site}/{name}/up/{KINDS[what]}"
        out.append(SimMessage(now_s * 1000, topic, json.dumps(body).encode()))
    return [*out, SimMessage(now_s * 1000 + 5_000_000, "evt/v1/S1/alone/up/hb", b'{"v":1,"boot":1}')]


@settings(max_examples=150)
@given(story=stories, sizes=st.lists(st.integers(1, 9), min_size=1, max_size=5))
def test_first_contact_does_not_depend_on_batches(
    story: list[tuple[str, int, int]], sizes: list[int]
) -> None:
    """What is said of devices before, with and after the first message that names them counts alike.

    Births, words of whole stations and registers of transactions may or may not share a batch with the first
    reading; there is a restart after each batch.
    """
    stages = Stages.of(CONFIG, None)
    frames = sharded(CONFIG, story_messages(story))
    whole, cut = run_all(stages, frames), Outputs()
    for shard, frame in frames.items():
        chain, at = Chain(stages, shard, cut), 0
        for size in itertools.cycle(sizes):
            if at >= len(frame):
                break
            end = piece(frame, at, size)
            chain.feed(at, frame.slice(at, end))
            chain.restore(chain.snapshot())
            at = end
        chain.finish()
    assert cut.intervals == whole.intervals
    assert cut.findings == whole.findings
    assert cut.points == whole.points
    assert cut.states == whole.states
    assert whole.open_gap() == cut.open_gap() == (0, 0)
