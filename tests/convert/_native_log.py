"""The converters' common parts: native messages in time order and numbered, and the command line."""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from connectors.msglog import LogWriter
from models.units import NS_PER_MS

BOOT = 1


class NativeLog:
    """Messages of nodes whose event times are known; arrival is the event time."""

    def __init__(self) -> None:
        self._messages: list[tuple[int, str, str, dict[str, Any]]] = []

    def add(self, t_ms: int, node: str, kind: str, **body: Any) -> None:
        """Add a message of `node` (``site/node``)."""
        self._messages.append((t_ms, node, kind, body))

    def meter(
        self, t_ms: int, node: str, evse: int, ch: list[str], row: list[float | None], tx: str | None = None
    ) -> None:
        """Add one reading; `row` has one value a channel."""
        series = {"evse": evse, "conn": 1, "t0": t_ms, "ch": ch, "rows": [[0, *row]]}
        self.add(t_ms, node, "meter", series=[series | ({"tx": tx} if tx else {})])

    def status(self, t_ms: int, node: str, evse: int, status: str) -> None:
        """Add a connector status."""
        self.add(t_ms, node, "status", items=[{"evse": evse, "conn": 1, "t": t_ms, "status": status}])

    def tx(
        self, t_ms: int, node: str, evse: int, tx_id: str, event_type: str, reg_mwh: int, **more: Any
    ) -> None:
        """Add a transaction message with the register."""
        item = {"evse": evse, "conn": 1, "t": t_ms, "txId": tx_id, "eventType": event_type}
        self.add(t_ms, node, "tx", items=[item | {"reg_wh": reg_mwh / 1000} | more])

    def write(self, path: Path) -> int:
        """Write everything to `path` and return the number of messages."""
        last_seq: dict[str, int] = defaultdict(int)
        with LogWriter(path) as log:
            for t_ms, node, kind, body in sorted(self._messages, key=lambda m: m[0]):
                head: dict[str, Any] = {"v": 1, "boot": BOOT}
                if kind not in {"conn", "hb"}:
                    last_seq[node] += 1
                if kind != "conn":
                    head["seq"] = last_seq[node]
                payload = msgspec.json.encode(head | body)
                log.write(t_ms * NS_PER_MS, f"evt/v1/{node}/up/{kind}", payload)
        return len(self._messages)


def run(
    description: str | None, convert: Callable[[argparse.Namespace], int], *, limit: bool = False
) -> None:
    """Read the command line, convert, and say how many messages were written."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--data", type=Path, required=True, help="data folder that holds ev")
    parser.add_argument("--out", type=Path, required=True, help="message log to write, .jsonl, .gz or .zst")
    if limit:
        parser.add_argument("--max-sessions", type=int, help="sessions per source; all when left out")
    args = parser.parse_args()
    print(f"{convert(args)} messages written to {args.out}")
