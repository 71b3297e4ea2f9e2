"""Sequencing: duplicates out, gaps waited for, clocks corrected, for any split into calls."""

from __future__ import annotations

import itertools
import random
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models._clock_skew import Arrivals
from models.batch import DECODED, DUPLICATE
from models.errors import SnapshotError
from models.sequencing import Sequencer, SequencingConfig
from models.units import NO_TIME

S = 1_000_000_000
T0 = 1_780_000_000 * S


@dataclass(frozen=True)
class Msg:
    """A message of node 0 (or a tick: node -1)."""

    recv_s: float
    seq: int = -1
    boot: int = 1
    node: int = 0
    newest_ns: int = NO_TIME
    clock_ns: int = NO_TIME


def arrivals(messages: list[Msg]) -> Arrivals:
    return Arrivals(
        np.array([m.node for m in messages], np.int32),
        np.array([m.seq >= 0 for m in messages], np.uint8),
        np.array([m.boot for m in messages], np.int64),
        np.array([m.seq for m in messages], np.int64),
        np.array([T0 + round(m.recv_s * S) for m in messages], np.int64),
        np.array([m.newest_ns for m in messages], np.int64),
        np.array([m.clock_ns for m in messages], np.int64),
    )


def run(
    messages: list[Msg], cuts: list[int] | None = None, config: SequencingConfig | None = None
) -> list[tuple[Msg, str]]:
    """Return (message, fate) in order of effect, fed in pieces cut at `cuts`, restored at each cut."""
    config = config or SequencingConfig()
    out: list[tuple[Msg, str]] = []
    held: list[Msg] = []
    state = None
    bounds = [0, *(cuts or []), len(messages)]
    for a, b in itertools.pairwise(bounds):
        sequencer = Sequencer(config, state)
        sequencer.reserve(4)
        given_ = held + messages[a:b]
        effects, waiting = sequencer.run(arrivals(given_))
        for i in effects.message[: int(effects.used[0])].tolist():
            out.append((given_[i], {DECODED: "ok", DUPLICATE: "dup"}[int(effects.fate[i])]))
        held = [given_[i] for i in sorted(waiting.tolist())]
        state = sequencer.snapshot()
    return out


def seqs(result: list[tuple[Msg, str]], fate: str = "ok") -> list[int]:
    return [m.seq for m, f in result if f == fate and m.seq >= 0]


def test_in_order_passes() -> None:
    assert seqs(run([Msg(i, i) for i in range(1, 6)])) == [1, 2, 3, 4, 5]


def test_redelivery_is_a_duplicate() -> None:
    result = run([Msg(0, 1), Msg(1, 2), Msg(2, 2), Msg(3, 1), Msg(4, 3)])
    assert seqs(result) == [1, 2, 3]
    assert seqs(result, "dup") == [2, 1]


def test_overtaken_message_is_waited_for() -> None:
    assert seqs(run([Msg(0, 1), Msg(0.1, 3), Msg(0.2, 4), Msg(0.3, 2), Msg(0.4, 5)])) == [1, 2, 3, 4, 5]


def test_gap_is_passed_over_after_the_hold_and_the_late_one_taken() -> None:
    result = run([Msg(0, 1), Msg(1, 3), Msg(2.5, -1, node=-1), Msg(3.5, -1, node=-1), Msg(4, 2), Msg(5, 2)])
    assert [m.seq for m, f in result if f == "ok"] == [1, -1, 3, -1, 2]
    assert seqs(result, "dup") == [2]


def test_unknown_node_starts_anywhere_but_a_new_boot_starts_at_one() -> None:
    result = run([Msg(0, 40), Msg(1, 41), Msg(2, 2, boot=2), Msg(2.1, 1, boot=2)])
    assert [(m.boot, m.seq) for m, _ in result] == [(1, 40), (1, 41), (2, 1), (2, 2)]


def test_old_boot_is_deduplicated_after_a_reboot() -> None:
    result = run([Msg(0, 1), Msg(1, 3), Msg(1.5, 1, boot=2), Msg(2, 3), Msg(3, 2), Msg(4, 2)])
    assert [(m.boot, m.seq, f) for m, f in result] == [
        (1, 1, "ok"),
        (1, 3, "ok"),  # released because the node moved on
        (2, 1, "ok"),
        (1, 3, "dup"),
        (1, 2, "ok"),
        (1, 2, "dup"),
    ]


def test_hold_is_bounded() -> None:
    config = SequencingConfig(hold_max=3)
    result = run([Msg(0, 1)] + [Msg(0.01 * k, k) for k in range(3, 8)], config=config)
    assert seqs(result) == [1, 3, 4, 5, 6, 7]


def test_skew_of_three_heartbeats_shifts_times() -> None:
    off = 100 * S
    messages = [Msg(k, clock_ns=T0 + k * S - off) for k in range(3)] + [Msg(4, 1, newest_ns=T0 + 4 * S - off)]
    sequencer = Sequencer(SequencingConfig())
    sequencer.reserve(1)
    effects, _ = sequencer.run(arrivals(messages))
    assert effects.shift_ns.tolist() == [0, 0, off, off]
    assert effects.live[3] == 1


@pytest.mark.parametrize("years", [-10, 10])
def test_a_clock_ten_years_off_is_corrected_at_once(years: int) -> None:
    off = years * 365 * 86400 * S
    sequencer = Sequencer(SequencingConfig())
    sequencer.reserve(1)
    effects, _ = sequencer.run(arrivals([Msg(0, clock_ns=T0 + off), Msg(1, 1, newest_ns=T0 + S + off)]))
    assert effects.shift_ns.tolist() == [-off, -off]
    assert effects.live.tolist() == [1, 1]
    # the station sets its clock: the next message is right and must not be shifted
    effects, _ = sequencer.run(arrivals([Msg(2, 2, newest_ns=T0 + 2 * S)]))
    assert effects.shift_ns.tolist() == [0]


def test_future_without_heartbeat_is_moved_to_arrival_and_backlog_is_not_live() -> None:
    sequencer = Sequencer(SequencingConfig())
    sequencer.reserve(2)
    effects, _ = sequencer.run(
        arrivals([Msg(0, 1, newest_ns=T0 + 900 * S), Msg(1, 1, node=1, newest_ns=T0 - 7200 * S)])
    )
    assert effects.shift_ns.tolist() == [-900 * S, 0]
    assert effects.live.tolist() == [1, 0]


def test_snapshot_of_another_version_is_refused() -> None:
    with pytest.raises(SnapshotError, match="version 99"):
        Sequencer(SequencingConfig(), {"version": 99})


@settings(deadline=None, max_examples=150)
@given(st.integers(0, 2**32 - 1), st.lists(st.integers(0, 60), max_size=6))
def test_any_split_gives_the_same_and_every_number_once(seed: int, cuts: list[int]) -> None:
    rng = random.Random(seed)
    messages: list[Msg] = []
    at = 0.0
    for node in (0, 1):
        for seq in range(1, 21):
            if rng.random() < 0.1:
                continue
            delay = rng.random() * 3 if rng.random() < 0.3 else 0
            messages.append(Msg(seq * 0.7 + delay, seq, boot=1 + seq // 12, node=node))
            if rng.random() < 0.2:
                messages.append(Msg(seq * 0.7 + delay + rng.random(), seq, boot=1 + seq // 12, node=node))
    messages += [Msg(k, node=-1) for k in range(20)]
    messages.sort(key=lambda m: m.recv_s)
    at = messages[-1].recv_s + 10
    messages.append(Msg(at, node=-1))
    whole = run(messages)
    inside = sorted({c for c in cuts if 0 < c < len(messages)})
    assert run(messages, inside) == whole
    for node in (0, 1):
        sent = [(m.boot, m.seq) for m in messages if m.node == node]
        taken = [(m.boot, m.seq) for m, f in whole if m.node == node and f == "ok"]
        assert sorted(set(sent)) == sorted(taken)
        assert len(whole) == len(messages)


@settings(deadline=None, max_examples=100)
@given(st.integers(0, 2**32 - 1))
def test_reordering_within_the_hold_is_undone(seed: int) -> None:
    rng = random.Random(seed)
    messages = [Msg(0.1 * seq + rng.random() * 1.5, seq) for seq in range(1, 40)]
    messages[0] = Msg(0.0, 1)
    messages.sort(key=lambda m: m.recv_s)
    assert seqs(run(messages)) == list(range(1, 40))
