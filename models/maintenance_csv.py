"""``maintenance.csv``: every EVSE with its health, why, its wear and its last inspection."""

from __future__ import annotations

import csv
import io
import itertools
from collections.abc import Iterable, Iterator
from typing import Any, Final

from .maintenance import Assessment
from .outputs import WearCounts
from .units import wh_text

#: Columns of ``maintenance.csv``.
COLUMNS: Final = (
    "site", "station", "evse", "connector_type", "health", "risk", "due", "due_by", "reasons",
    "last_inspection", "last_inspection_by", "last_inspection_what", "first_heard", "plug_cycles",
    "contactor_operations", "energy_wh", "use_h", "warm_h", "hot_h", "body_hot_h", "plug_cycles_since",
    "contactor_operations_since", "energy_wh_since",
)  # fmt: skip


def csv_lines(found: Iterable[Assessment]) -> Iterator[str]:
    """Yield a header and a line for each EVSE; times are epoch ms, missing is empty."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    for row in itertools.chain([COLUMNS], map(_cells, found)):
        table.writerow(row)
        yield text.getvalue()
        text.seek(0)
        text.truncate()


def _cells(one: Assessment) -> tuple[Any, ...]:
    c, since = one.counts, one.since
    hours = (f"{s / 3600:.2f}" for s in (c.use_s, c.warm_s, c.hot_s, c.body_hot_s))
    return (
        one.site, one.station, one.evse, one.connector_type, one.health, f"{one.risk:g}",
        "true" if one.due else "false", " ".join(one.due_by), "; ".join(r.text for r in one.reasons),
        _or_empty(one.last_inspection_ms), one.last_inspection_by, one.last_inspection_what,
        _or_empty(one.first_ms), c.plug_cycles, c.contactor_operations, _energy(c), *hours,
        since.plug_cycles, since.contactor_operations, _energy(since),
    )  # fmt: skip


def _or_empty(value: int | None) -> int | str:
    return "" if value is None else value


def _energy(counts: WearCounts) -> str:
    return "" if counts.energy_mwh is None else wh_text(counts.energy_mwh)
