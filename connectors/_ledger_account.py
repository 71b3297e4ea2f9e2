"""The account of journal ranges: what replaces what, and folding old ranges together."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any, Final

import msgspec
from sqlalchemy import Connection, delete, func, insert, select

from models.outputs import Account

from . import _ledger_tables as t

#: A shard with more ranges than this has its oldest ones folded into one, down to `FOLD_TO`.
FOLD_AT: Final = 4096
FOLD_TO: Final = 1024


class AccountBook:
    """Writes account records; remembers how many ranges each shard has."""

    def __init__(self) -> None:
        self._ranges: dict[int, int] = {}

    def apply(self, db: Connection, records: Sequence[Account]) -> None:
        """Write `records` in their order: each deletes its shard's ranges from its `first` on."""
        by_shard: dict[int, list[Account]] = defaultdict(list)
        for record in records:
            ranges = by_shard[record.shard]
            while ranges and ranges[-1].first >= record.first:
                ranges.pop()
            ranges.append(record)
        lowest: dict[int, int] = {}
        for record in records:
            lowest[record.shard] = min(record.first, lowest.get(record.shard, record.first))
        table = t.account
        for shard, ranges in by_shard.items():
            db.execute(delete(table).where(table.c.shard == shard, table.c.first >= lowest[shard]))
            db.execute(insert(table), [msgspec.structs.asdict(r) for r in ranges])
            self._ranges[shard] = self._ranges.get(shard, FOLD_AT) + len(ranges)
            if self._ranges[shard] > FOLD_AT:
                self._ranges[shard] = _fold(db, shard)


def _fold(db: Connection, shard: int) -> int:
    """Fold the shard's oldest ranges and return how many it has then.

    Only ranges that follow one another and close are folded, so what does not close stays in sight.
    """
    table = t.account
    count = int(
        db.execute(select(func.count()).select_from(table).where(table.c.shard == shard)).scalar_one()
    )
    if count <= FOLD_AT:
        return count
    query = select(table).where(table.c.shard == shard).order_by(table.c.first).limit(count - FOLD_TO)
    runs: list[list[dict[str, Any]]] = []
    end = held = 0
    for found in db.execute(query).mappings():
        row = dict(found)
        if runs and row["first"] == end and _closes(row, held):
            runs[-1].append(row)
        else:
            runs.append([row])
        end, held = row["end"], row["held"]
    for run in (run for run in runs if len(run) > 1):
        span = (table.c.first >= run[0]["first"], table.c.first <= run[-1]["first"])
        db.execute(delete(table).where(table.c.shard == shard, *span))
        folded = run[-1] | {"first": run[0]["first"], "through_ms": max(r["through_ms"] for r in run)}
        folded |= {name: sum(r[name] for r in run) for name in t.COUNTED}
        db.execute(insert(table), [folded])
        count -= len(run) - 1
    return count


def _closes(row: dict[str, Any], held_before: int) -> bool:
    messages = row["messages"] + held_before == row["decoded"] + row["duplicate"] + row["dead"] + row["held"]
    rows = row["rows_processed"] + row["rows_late"] + row["rows_duplicate"] + row["rows_invalid"]
    return bool(messages and row["rows_in"] == rows)
