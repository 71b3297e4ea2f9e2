"""Rows as JSON, CSV or Parquet; the last two as a stream, however many rows there are."""

from __future__ import annotations

import csv
import io
import itertools
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final, Literal

import numpy as np

from connectors.billing_reader import QUALITIES, EvseKey, IntervalColumns, IntervalTuple, Row
from models.ocpi_objects import total_of
from models.units import NO_REGISTER, wh_text

Format = Literal["json", "csv", "parquet"]
MEDIA: Final = {
    "json": "application/json",
    "csv": "text/csv; charset=utf-8",
    "parquet": "application/vnd.apache.parquet",
}
_BLOCK_ROWS: Final = 262_144
_ROWS_AT_ONCE: Final = 20_000


@dataclass(frozen=True, slots=True)
class Column:
    """One column: its name in the row and outside, and its kind (text, int, time, bool, json, wh, decimal).

    `made`, where there is one, makes the value from the whole row.
    """

    name: str
    kind: str = "text"
    shown: str = ""
    made: Callable[[Row], Any] | None = None

    def of(self, row: Row) -> Any:
        """Return the value that a row has in this column."""
        return row[self.name] if self.made is None else self.made(row)

    @property
    def title(self) -> str:
        """Name in CSV and Parquet."""
        return self.shown or self.name


def _in_bill(name: str) -> Callable[[Row], Any]:
    return lambda row: row["body"].get(name)


def _total(place: Literal[0, 1]) -> Callable[[Row], Decimal | None]:
    def total(row: Row) -> Decimal | None:
        cost = row["body"].get("total_cost")
        return None if cost is None else total_of(cost)[place]

    return total


SESSIONS: Final = (
    Column("site"), Column("station"), Column("evse", "int"), Column("connector", "int"),
    Column("transaction_id"), Column("revision", "int"), Column("start_ms", "time", "start"),
    Column("end_ms", "time", "end"), Column("energy_mwh", "wh", "energy_wh"),
    Column("begin_mwh", "wh", "begin_wh"), Column("end_mwh", "wh", "end_wh"), Column("state"),
    Column("flags", "json"), Column("token_type"), Column("token_hash"), Column("changed", "int"),
)  # fmt: skip
CDRS: Final = (
    Column("id"), Column("site"), Column("station"), Column("transaction_id"), Column("revision", "int"),
    Column("credit", "bool"), Column("credit_reference_id"), Column("ocpi_version"),
    Column("last_updated_ms", "time", "last_updated"), Column("start", made=_in_bill("start_date_time")),
    Column("end", made=_in_bill("end_date_time")), Column("currency", made=_in_bill("currency")),
    Column("energy_kwh", "decimal", made=_in_bill("total_energy")),
    Column("total_excl", "decimal", made=_total(0)), Column("total_incl", "decimal", made=_total(1)),
    Column("changed", "int"), Column("body", "json"),
)  # fmt: skip
MONTHS: Final = (
    Column("site"), Column("month"), Column("time_zone"), Column("energy_wh"), Column("quarters", "int"),
    Column("quarters_missing", "int"), Column("peak_w"), Column("peak_start_ms", "time", "peak_start"),
)  # fmt: skip
QUARTERS: Final = (
    Column("site"), Column("start_ms", "time", "start"), Column("energy_mwh", "wh", "energy_wh"),
    Column("evses", "int"), Column("evses_missing", "int"), Column("revision", "int"),
)  # fmt: skip
INTERVALS: Final = (
    Column("site"), Column("station"), Column("evse", "int"), Column("start_ms", "time", "start"),
    Column("energy_mwh", "wh", "energy_wh"), Column("quality"), Column("revision", "int"),
)  # fmt: skip


def csv_lines(columns: Sequence[Column], rows: Iterable[Row]) -> Iterator[bytes]:
    """Yield CSV with a header; energy as exact text in Wh, times in epoch ms, missing is empty."""
    yield _csv([[column.title for column in columns]])
    for part in _batched(rows, 1_000):
        yield _csv([[_cell(column.of(row), column.kind) for column in columns] for row in part])


def csv_intervals(blocks: Iterable[tuple[EvseKey, Sequence[IntervalTuple]]]) -> Iterator[bytes]:
    """Yield ``intervals.csv``: site, station, evse, start, energy_wh, quality, revision."""
    yield _csv([[column.title for column in INTERVALS]])
    for (site, station, evse), rows in blocks:
        yield _csv(
            [
                [site, station, evse, start, "" if mwh is None else wh_text(mwh), quality, revision]
                for start, mwh, quality, revision in rows
            ]
        )


def _batched(rows: Iterable[Row], size: int) -> Iterator[list[Row]]:
    left = iter(rows)
    while part := list(itertools.islice(left, size)):
        yield part


def _csv(rows: Iterable[Sequence[Any]]) -> bytes:
    text = io.StringIO()
    csv.writer(text).writerows(rows)
    return text.getvalue().encode()


def _cell(value: Any, kind: str) -> Any:
    if value is None:
        return ""
    if kind == "wh":
        return wh_text(value)
    if kind == "bool":
        return "true" if value else "false"
    if kind == "decimal":
        return f"{_decimal(value):f}"
    return json.dumps(value, separators=(",", ":")) if kind == "json" else value


def _decimal(value: Any) -> Decimal:
    """Return a number of a body that JSON reading made a float: its shortest text is what was written."""
    return value if isinstance(value, Decimal) else Decimal(str(value))


class _Sink(io.RawIOBase):
    """Collects what a writer writes until it is taken away."""

    def __init__(self) -> None:
        super().__init__()
        self._parts: list[bytes] = []
        self._at = 0

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        part = bytes(data)
        self._parts.append(part)
        self._at += len(part)
        return len(part)

    def tell(self) -> int:
        return self._at

    def take(self) -> bytes:
        found = b"".join(self._parts)
        self._parts.clear()
        return found


def _schema(columns: Sequence[Column]) -> Any:
    import pyarrow as pa

    kinds = {
        "int": pa.int64(), "time": pa.timestamp("ms", "UTC"), "wh": pa.int64(), "bool": pa.bool_(),
        "text": pa.string(), "json": pa.string(), "decimal": pa.decimal128(24, 6),
    }  # fmt: skip
    # Energy stays what it is in the ledger, integer mWh: exact, and fast to sum.
    return pa.schema([(c.name if c.kind == "wh" else c.title, kinds[c.kind]) for c in columns])


def parquet_rows(columns: Sequence[Column], rows: Iterable[Row]) -> Iterator[bytes]:
    """Yield a Parquet file of `rows`; energy as integer mWh, times as timestamps in UTC."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema, sink = _schema(columns), _Sink()
    with pq.ParquetWriter(sink, schema, compression="snappy") as writer:
        for part in _batched(rows, _ROWS_AT_ONCE):
            arrays = [
                pa.array([_arrow(column.of(row), column.kind) for row in part], field.type)
                for column, field in zip(columns, schema, strict=True)
            ]
            writer.write_table(pa.Table.from_arrays(arrays, schema=schema))
            yield sink.take()
    yield sink.take()


def _arrow(value: Any, kind: str) -> Any:
    if value is None:
        return None
    if kind == "decimal":
        return _decimal(value)
    return json.dumps(value, separators=(",", ":")) if kind == "json" else value


def parquet_intervals(blocks: Iterable[tuple[EvseKey, IntervalColumns]]) -> Iterator[bytes]:
    """Yield a Parquet file of intervals, a row group for each quarter million rows."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    sink = _Sink()
    text = pa.dictionary(pa.int32(), pa.string())
    schema = pa.schema(
        [
            ("site", text), ("station", text), ("evse", pa.int64()), ("start", pa.timestamp("ms", "UTC")),
            ("energy_mwh", pa.int64()), ("quality", text), ("revision", pa.int64()),
        ]
    )  # fmt: skip
    with pq.ParquetWriter(sink, schema, compression="snappy") as writer:
        held: list[Any] = []
        count = 0
        for key, columns in blocks:
            if len(columns.start_ms):
                held.append(_interval_batch(pa, schema, key, columns))
                count += len(columns.start_ms)
            if count >= _BLOCK_ROWS:
                writer.write_table(pa.Table.from_batches(held, schema).unify_dictionaries(), count)
                held, count = [], 0
                yield sink.take()
        if held:
            writer.write_table(pa.Table.from_batches(held, schema).unify_dictionaries(), count)
    yield sink.take()


def _interval_batch(pa: Any, schema: Any, key: EvseKey, columns: IntervalColumns) -> Any:
    count = len(columns.start_ms)
    zeros = pa.array(np.zeros(count, np.int32))
    arrays = [
        pa.DictionaryArray.from_arrays(zeros, pa.array([key[0]])),
        pa.DictionaryArray.from_arrays(zeros, pa.array([key[1]])),
        pa.array(np.full(count, key[2], np.int64)),
        pa.array(columns.start_ms).cast(pa.timestamp("ms", "UTC")),
        pa.array(columns.energy_mwh, mask=columns.energy_mwh == NO_REGISTER),
        pa.DictionaryArray.from_arrays(pa.array(columns.quality.astype(np.int32)), pa.array(QUALITIES)),
        pa.array(columns.revision),
    ]
    return pa.RecordBatch.from_arrays(arrays, schema=schema)
