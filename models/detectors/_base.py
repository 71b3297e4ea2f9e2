"""The Python part of detectors over readings: growth, snapshots, the loop over full emission arrays."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import fields
from typing import Any, ClassVar, Final

import numpy as np
from numpy.typing import NDArray

from models.batch import ReadingBatch
from models.channels import CHANNEL_ID
from models.detecting import DetectorSpec, EmissionArrays, Emissions, Observed
from models.devices import DeviceTable
from models.errors import ConfigError, SnapshotError
from models.units import NS_PER_S

#: Columns that `_kernels.pick_phases` chooses from.
GRID_CHANNELS: Final[tuple[int, ...]] = tuple(
    CHANNEL_ID[name]
    for name in (
        "Voltage@L1-N",
        "Voltage@L2-N",
        "Voltage@L3-N",
        "Voltage",
        "Voltage@L1-N/Inlet",
        "Voltage@L2-N/Inlet",
        "Voltage@L3-N/Inlet",
        "Voltage/Inlet",
    )
)


def ns(seconds: float) -> int:
    """Return seconds as integer nanoseconds."""
    return round(seconds * NS_PER_S)


def require(config: Any, *texts: str, **bounds: tuple[float, float]) -> None:
    """Check that fields of a detector's Config lie within their bounds (inclusive).

    `texts` are the names of fields that are no numbers: the caller checks them.

    Raises
    ------
    ConfigError
        Naming every field that does not.
    """
    wrong = []
    for name, (low, high) in bounds.items():
        value = getattr(config, name)
        if not isinstance(value, int | float) or not low <= value <= high:
            wrong.append(f"{name} = {value!r}: expected a number from {low:g} to {high:g}")
    missing = {f.name for f in fields(config)} - bounds.keys() - set(texts)
    if missing:
        raise TypeError(f"{type(config).__module__}: no bounds for {sorted(missing)}")
    if wrong:
        detector = type(config).__module__.rsplit(".", 1)[-1]
        raise ConfigError("\n".join(f"[detectors.{detector}] {line}" for line in wrong))


def check_version(spec: DetectorSpec, version: int, state: dict[str, Any]) -> None:
    """Raise `SnapshotError` unless `state` is a snapshot of this detector and version."""
    found = (state.get("code"), state.get("version"))
    if found != (spec.code, version):
        raise SnapshotError(
            f"detector {spec.code} reads snapshots of version {version}, this one is {found[1]!r} of"
            f" {found[0]!r}; start it without saved state, or with the program that wrote it"
        )


class Table:
    """A structured array with one record per row of the device table, grown by doubling.

    Records are packed, wide fields first: padding would be a twentieth of all state.
    """

    def __init__(self, dtype: list[Any], blank: dict[str, Any]) -> None:
        self.dtype = np.dtype(sorted(dtype, key=lambda item: -np.dtype(item[1]).itemsize))
        self._blank = np.zeros(1, self.dtype)
        for name, value in blank.items():
            self._blank[name] = value
        self.n = 0
        self.rows: NDArray[Any] = np.repeat(self._blank, 16)

    def reserve(self, n: int) -> None:
        """Have records for rows 0 to n - 1."""
        if n > len(self.rows):
            more = np.repeat(self._blank, max(n, 2 * len(self.rows)) - len(self.rows))
            self.rows = np.concatenate([self.rows, more])
        self.n = max(self.n, n)

    def columns(self) -> dict[str, NDArray[Any]]:
        """Return the used records as one plain array per field."""
        names = self.dtype.names or ()
        return {name: self.rows[name][: self.n].copy() for name in names}

    def load(self, columns: dict[str, NDArray[Any]], owner: str) -> None:
        """Take over what `columns` returned.

        Raises
        ------
        SnapshotError
            If the fields are not those of this table.
        """
        names = set(self.dtype.names or ())
        if set(columns) != names:
            raise SnapshotError(
                f"{owner}: saved fields {sorted(columns)} are not the expected {sorted(names)};"
                " start without saved state"
            )
        self.reserve(len(next(iter(columns.values()))))
        for name, values in columns.items():
            self.rows[name][: len(values)] = values

    @property
    def nbytes(self) -> int:
        """Bytes of the used records."""
        return self.n * self.dtype.itemsize


class RowDetector(ABC):
    """A detector whose state is one record per EVSE and whose work is one kernel over readings.

    Subclasses set `spec`, `version`, `dtype`, `blank` and implement `_run`. One that keeps more than `table`
    says how to load it (`_load`) and, where readings may ask for more of it than there is, how to grow it
    (`_make_room`).
    """

    spec: DetectorSpec
    version: int = 1
    dtype: ClassVar[list[Any]]
    blank: ClassVar[dict[str, Any]]

    def __init__(self, resume_state: dict[str, Any] | None = None) -> None:
        self.table = Table(self.dtype, self.blank)
        if resume_state is not None:
            check_version(self.spec, self.version, resume_state)
            self._load(resume_state)
        # compiled (or read from the cache) here, not at the first reading of a live stream
        empty = Emissions()
        self._run(0, ReadingBatch.empty(0, self.spec.channels[:1]), DeviceTable(), empty.arrays)

    def _load(self, state: dict[str, Any]) -> None:
        """Take over what `snapshot` returned."""
        if self.dtype:
            self.table.load(state["evses"], self.spec.code)

    def _make_room(self) -> bool:
        """Grow what `_run` stopped for the want of; return whether anything did: else it was `out`."""
        return False

    @abstractmethod
    def _run(self, start: int, rows: ReadingBatch, devices: DeviceTable, out: EmissionArrays) -> int:
        """Process readings from `start`; return the first one not processed for want of room, or n."""

    def process(self, seen: Observed, out: Emissions) -> None:
        """Take in one batch and emit what changed."""
        rows, spec = seen.rows, self.spec
        if len(rows) == 0 or (spec.needs_channels and rows.present.isdisjoint(spec.channels)):
            return
        self.table.reserve(seen.devices.n_evses)
        at = 0
        while (at := self._run(at, rows, seen.devices, out.arrays)) < len(rows):
            if not self._make_room():
                out.grow()
        out.collect(spec)

    def snapshot(self) -> dict[str, Any]:
        """Return the whole state as plain data, copied."""
        return {"code": self.spec.code, "version": self.version, "evses": self.table.columns()}

    def nbytes(self) -> int:
        """Return the bytes of state held."""
        return self.table.nbytes


def slots(rows: ReadingBatch, channels: tuple[int, ...]) -> NDArray[np.int16]:
    """Return the column of each channel in `rows`, -1 when absent."""
    return rows.slot_of[list(channels)]


def columns(rows: ReadingBatch, channels: tuple[int, ...]) -> list[NDArray[np.float64]]:
    """Return the values of each channel in `rows`, contiguous, all NaN where it is absent."""
    return [np.ascontiguousarray(rows.column(c)) for c in channels]
