"""Managed sites as InfluxDB points: one a minute."""

from __future__ import annotations

from collections.abc import Sequence

from .load_rows import LoadRow
from .points import Value, encode_point

MEASUREMENT = "ev_load"
_PLAIN = (
    "ev_kw", "site_kw", "quarter_kwh", "projected_kw", "peak_kw", "demand_limit_kw", "charging", "waiting",
    "lost", "commands",
)  # fmt: skip


def load_lines(rows: Sequence[LoadRow]) -> bytes:
    """Return line protocol, a line for each minute of a site; its time is the start of the minute."""
    return "".join(f"{_line(row)}\n" for row in rows).encode()


def _line(row: LoadRow) -> str:
    fields: dict[str, Value] = {}
    for name in ("limit", "current", "other", "held"):
        for phase, value in enumerate(getattr(row, f"{name}_a"), start=1):
            fields[f"{name}_l{phase}_a"] = value
    fields |= {name: getattr(row, name) for name in _PLAIN}
    return encode_point(MEASUREMENT, {"site": row.site}, fields, row.start_ms * 1_000_000)
