"""The bill stage: quarter-hour energy, roll-ups and transactions of one shard."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

from models.batch import MessageColumns, ReadingBatch
from models.cashier import BillingPlan, Cashier
from models.devices import DeviceTable
from models.energy import Archive, EnergyConfig, EnergyMeter
from models.errors import SnapshotError
from models.rollups import RollupConfig, Rollups
from models.shard import ShardBatch
from models.signed_values import Signatures
from models.transactions import TransactionBook, TransactionConfig

VERSION: Final = 2


@dataclass(frozen=True, slots=True)
class BillConfig:
    """Settings of energy, roll-ups and transactions."""

    energy: EnergyConfig = field(default_factory=EnergyConfig)
    rollups: RollupConfig = field(default_factory=RollupConfig)
    transactions: TransactionConfig = field(default_factory=TransactionConfig)
    plan: BillingPlan | None = None  # None: no prices, no bills
    signatures: Signatures | None = None  # None: signed values are carried, not checked


class BillStage:
    """Energy meter and roll-ups of one shard.

    Parameters
    ----------
    shard : int
    config : BillConfig
    archive : Archive
        Where the energy meter keeps quarters that late readings may still revise.
    resume_state : dict, optional
        What `snapshot` returned.

    Raises
    ------
    SnapshotError
        If `resume_state` is of another version or shape.
    """

    def __init__(
        self,
        shard: int,
        config: BillConfig,
        archive: Archive,
        resume_state: dict[str, Any] | None = None,
    ) -> None:
        state = resume_state or {"version": VERSION, "energy": None, "rollups": None, "transactions": None}
        if state.get("version") != VERSION:
            raise SnapshotError(
                f"bill stage has version {state.get('version')!r}, this program reads {VERSION}"
            )
        self.shard = shard
        self._energy = EnergyMeter(config.energy, archive, state["energy"])
        self._rollups = Rollups(config.rollups, state["rollups"])
        cashier = None if config.plan is None else Cashier(config.plan)
        self._transactions = TransactionBook(
            config.transactions, state["transactions"], cashier, config.signatures
        )
        self._devices: DeviceTable | None = None
        self._end = 0
        self._order, self._now_ns = 0, 0

    def process(self, batch: ShardBatch) -> list[ShardBatch]:
        """Add intervals and roll-ups to the batch."""
        batch.intervals = self._energy.process(
            batch.rows, batch.late, batch.messages, batch.devices, batch.beside
        )
        batch.rollups = self._rollups.process(batch.rows, batch.messages, batch.devices)
        batch.sessions = self._transactions.process(
            batch.rows, batch.late, batch.messages, batch.records, batch.devices
        )
        self._takings(batch)
        self._devices, self._end = batch.devices, batch.end
        if len(batch.messages):
            self._order, self._now_ns = int(batch.messages.order[-1]) + 1, int(batch.messages.effect_ns[-1])
        return [batch]

    def finish(self) -> list[ShardBatch]:
        """Return one more batch with what is still open: the end of a log."""
        if self._devices is None:
            return []
        batch = ShardBatch(
            shard=self.shard,
            first=self._end,
            end=self._end,
            devices=self._devices,
            rows=ReadingBatch.empty(),
            late=ReadingBatch.empty(),
            beside=ReadingBatch.empty(),
            messages=_no_messages(),
            records=[],
            dead=[],
            account=None,
            intervals=self._energy.flush(self._devices),
            rollups=self._rollups.flush(),
            sessions=self._transactions.flush(self._order, self._now_ns, self._devices),
        )
        self._takings(batch)
        return [batch]

    def _takings(self, batch: ShardBatch) -> None:
        """Put into a batch what money needs of its sessions."""
        taken = self._transactions.taken()
        batch.cdrs = taken.cdrs
        batch.publishes += taken.publishes
        batch.reported |= {"costs": taken.costs, "payments": taken.payments}

    def counters(self) -> dict[str, int]:
        """Return how often registers did something else than count up, by name."""
        return self._energy.counters()

    def snapshot(self) -> dict[str, Any]:
        """Return the whole state as plain data; the archive is flushed."""
        return {
            "version": VERSION,
            "energy": self._energy.snapshot(),
            "rollups": self._rollups.snapshot(),
            "transactions": self._transactions.snapshot(),
        }

    def nbytes(self) -> int:
        """Return the bytes of columnar state held."""
        return self._energy.nbytes() + self._rollups.nbytes() + self._transactions.nbytes()


def _no_messages() -> MessageColumns:
    wide, narrow = np.zeros(0, np.int64), np.zeros(0, np.uint8)
    return MessageColumns(
        wide, wide, wide, np.zeros(0, np.int32), narrow, wide, wide, narrow, narrow, wide, wide
    )
