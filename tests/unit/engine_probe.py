"""A process that runs a counting flow over a journal: what the engine tests start, kill and restart."""

from __future__ import annotations

import argparse
import signal
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from connectors.journal import JournalReader
from models.frame import Frame
from pipeline import engine


class Counter:
    """Counts the messages of a shard and keeps a running hash of them."""

    def __init__(self, shard: int, state: Any) -> None:
        self.shard = shard
        self.count: int
        self.digest: int
        self.count, self.digest = state or (0, 0)

    def process(self, chunk: tuple[int, int, Frame]) -> Iterable[list[engine.Blob]]:
        _, first, frame = chunk
        assert first == self.count, f"shard {self.shard}: offset {first}, state {self.count}"
        out = []
        for i in range(len(frame)):
            self.digest = (self.digest * 31 + sum(frame.payload(i))) % 1_000_003
            self.count += 1
            out.append(("findings", self.shard, f"{self.shard} {self.count} {self.digest}\n".encode()))
        return [out]

    def finish(self) -> Iterable[list[engine.Blob]]:
        return [[("findings", self.shard, f"{self.shard} end {self.count}\n".encode())]]

    def snapshot(self) -> Any:
        return (self.count, self.digest)


class FileOutbox:
    """Appends to a file; what is not committed is lost with the process."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("ab", buffering=0)
        self._held: list[bytes] = []

    def append(self, records: list[engine.Blob]) -> None:
        self._held += [blob for _, _, blob in records]

    def commit(self) -> None:
        self._file.write(b"".join(self._held))
        self._held = []


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--journal", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--recovery", type=Path)
    parser.add_argument("--shards", default="0,1,2")
    parser.add_argument("--addresses", default="")
    parser.add_argument("--process", type=int, default=0)
    parser.add_argument("--batch", type=int, default=7)
    parser.add_argument("--ends", action="store_true")
    args = parser.parse_args()
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    addresses = [a for a in args.addresses.split(";") if a]
    committed = args.out.with_suffix(".committed")

    def note(offsets: dict[int, int]) -> None:
        with committed.open("a", encoding="utf-8") as file:
            for shard, offset in offsets.items():
                file.write(f"{shard} {offset}\n")

    outbox = FileOutbox(args.out)
    with JournalReader(args.journal) as journal:
        settings = engine.SourceSettings(
            shards=[int(s) for s in args.shards.split(",")],
            all_shards=[0, 1, 2],
            batch_max_messages=args.batch,
            ends=args.ends,
            stopping=stop.is_set,
            committed=note,
            pulse=outbox.commit,
        )
        flow = engine.Flow("probe", journal, settings).stage("count", Counter)
        engine.run(
            flow.build(outbox, args.process, max(1, len(addresses))),
            epoch_s=0.1,
            recovery_dir=args.recovery,
            addresses=addresses,
            process=args.process,
        )


if __name__ == "__main__":
    main()
