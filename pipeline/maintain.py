"""The maintain stage: what wears of each EVSE, and what technicians did about it."""

from __future__ import annotations

from typing import Any, Final

from models.batch import MessageColumns, ReadingBatch
from models.devices import DeviceTable
from models.errors import SnapshotError
from models.shard import ShardBatch
from models.wear import Wear, WearConfig

VERSION: Final = 1


class MaintainStage:
    """Wear of one shard.

    Parameters
    ----------
    shard : int
    config : WearConfig
    resume_state : dict, optional
        What `snapshot` returned.

    Raises
    ------
    SnapshotError
        If `resume_state` is of another version or shape.
    """

    def __init__(self, shard: int, config: WearConfig, resume_state: dict[str, Any] | None = None) -> None:
        state = resume_state or {"version": VERSION, "wear": None}
        if state.get("version") != VERSION:
            raise SnapshotError(
                f"maintain stage has version {state.get('version')!r}, this program reads {VERSION}"
            )
        self.shard = shard
        self._wear = Wear(config, state["wear"])
        self._devices: DeviceTable | None = None
        self._end = 0

    def process(self, batch: ShardBatch) -> list[ShardBatch]:
        """Add wear and inspections to the batch."""
        wear, inspections = self._wear.process(batch.rows, batch.messages, batch.records, batch.devices)
        batch.reported |= {"wear": wear, "inspections": inspections}
        self._devices, self._end = batch.devices, batch.end
        return [batch]

    def finish(self) -> list[ShardBatch]:
        """Return one more batch with what was not put out yet: the end of a log."""
        if self._devices is None:
            return []
        empty = ReadingBatch.empty()
        last = ShardBatch(
            shard=self.shard,
            first=self._end,
            end=self._end,
            devices=self._devices,
            rows=empty,
            late=empty,
            beside=empty,
            messages=MessageColumns.empty(),
            records=[],
            dead=[],
            account=None,
            reported={"wear": self._wear.flush()},
        )
        return [last]

    def snapshot(self) -> dict[str, Any]:
        """Return the whole state as plain data."""
        return {"version": VERSION, "wear": self._wear.snapshot()}

    def nbytes(self) -> int:
        """Return the bytes of columnar state held."""
        return self._wear.nbytes()
