"""A log as a journal: the same messages as a stored one, whatever the bounds of a read."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

from connectors.journal import JournalReader
from connectors.msglog import LogWriter, read_frames
from models.frame import Frame
from pipeline import replay_log
from pipeline.config import Config
from pipeline.replay_log import LogJournal, write_journal

T0_NS = 1_780_000_000_000_000_000


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """Return a log of three sites, one of them silent for a while."""
    path = tmp_path / "log.jsonl"
    with LogWriter(path) as writer:
        for k in range(60):
            site = "ABC"[k % 3] if not 20 <= k < 50 else "AB"[k % 2]
            writer.write(T0_NS + k * 700_000_000, f"evt/v1/{site}/N/up/hb", b'{"v":1,"k":%d}' % k)
    return path


def _read(journal: LogJournal | JournalReader, most: int, size: int) -> dict[int, Frame]:
    """Read all shards in turns to their ends."""
    parts: dict[int, list[Frame]] = {shard: [] for shard in journal.ends()}
    offset = dict.fromkeys(parts, 0)
    going = set(parts)
    while going:
        for shard in sorted(going):
            found = journal.read(shard, offset[shard], most, size)
            if found is None:
                going.remove(shard)
                continue
            first, frame = found
            assert first == offset[shard]
            assert len(frame) <= most
            parts[shard].append(frame)
            offset[shard] += len(frame)
    return {shard: Frame.concat(frames) for shard, frames in parts.items() if frames}


@pytest.mark.parametrize(("most", "size"), [(8192, 1 << 20), (1, 1 << 20), (7, 100), (8192, 1)])
def test_it_holds_what_a_stored_journal_holds(
    log: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most: int, size: int
) -> None:
    monkeypatch.setattr(replay_log, "_BLOCK_MESSAGES", 16)
    monkeypatch.setattr(replay_log, "read_frames", partial(read_frames, block_messages=8))
    config = Config()
    write_journal(config, log, tmp_path / "journal.db")
    with JournalReader(tmp_path / "journal.db") as reader:
        stored = _read(reader, 8192, 1 << 20)
        assert LogJournal(config, log).ends().keys() == reader.ends().keys()
    found = {
        shard: frame for shard, frame in _read(LogJournal(config, log), most, size).items() if len(frame)
    }
    assert {shard: frame.encode() for shard, frame in found.items()} == {
        shard: frame.encode() for shard, frame in stored.items()
    }
    assert sum(int((frame.flags == 0).sum()) for frame in found.values()) == 60


def test_a_shard_is_handed_out_once_and_in_order(log: Path) -> None:
    journal = LogJournal(Config(), log)
    busy = next(s for s in journal.ends() if (found := journal.read(s, 0, 1)) and len(found[1]))
    with pytest.raises(ValueError, match=rf"shard {busy} .* up to 1, offset 0"):
        journal.read(busy, 0)
