"""The flow, as the picture in the README draws it.

    journal ─▶ order ─▶ detect ─▶ bill ─▶ control ─▶ maintain ─▶ emit ─▶ outbox

One line per stage; each holds its own state per shard. What a stage is given depends on nothing but the
journal, so the same journal gives the same results, byte for byte, however it is cut into batches.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from connectors.meter_keys import registered_keys
from connectors.ocmf_files import read_keys, register
from connectors.prices import read_price_files
from connectors.quarters import open_archive
from models.dynamic import PriceSeries
from models.energy import Archive, EnergyConfig, MemoryArchive
from models.errors import ConfigError
from models.rollups import RollupConfig
from models.signed_values import Signatures
from models.tariffs import TariffError
from models.transactions import TransactionConfig
from models.units import NS_PER_S
from models.wear import WearConfig

from .bill import BillConfig, BillStage
from .billing_plan import billing_plan
from .config import Config
from .control import ControlConfig, ControlStage
from .control_plan import control_plan
from .detect import DetectConfig, DetectStage
from .emit import EmitConfig, EmitStage
from .engine import Flow, Journal, SourceSettings
from .maintain import MaintainStage
from .order import OrderConfig, OrderStage
from .order_plan import order_plan


@dataclass(slots=True)
class Stages:
    """The settings of every stage, made once from the configuration."""

    order: OrderConfig
    detect: DetectConfig
    bill: BillConfig
    control: ControlConfig
    wear: WearConfig
    emit: EmitConfig
    archive_dir: Path | None  # None: quarters beyond the hot ones stay in memory, no state is saved (replay)
    detecting: list[DetectStage] = field(default_factory=list)  # those that were built, for the status

    @classmethod
    def of(cls, config: Config, archive_dir: Path | None) -> Stages:
        """Return the stages' settings as `config` has them."""
        energy, prices = config.energy, _prices(config)
        return cls(
            order_plan(config),
            DetectConfig(config.detector_configs()),
            BillConfig(
                EnergyConfig(
                    boundary_tolerance_ns=round(energy.boundary_tolerance_s * NS_PER_S),
                    close_grace_ns=round(energy.close_grace_s * NS_PER_S),
                    late_quarters=energy.late_quarters,
                ),
                RollupConfig(),
                TransactionConfig(
                    settle_ns=round(config.billing.settle_s * NS_PER_S),
                    cost_ns=round(config.billing.running_cost_s * NS_PER_S),
                ),
                plan=billing_plan(config.billing, config.ocpi, prices),
                signatures=_signatures(config),
            ),
            control_plan(config, prices),
            config.maintenance.wear(),
            EmitConfig(
                influx=config.influx.enabled,
                raw=config.influx.raw,
                raw_max_rows_per_s=config.influx.raw_max_rows_per_s,
                shards=config.journal.shards,
                latest_every_ns=round(config.flow.latest_every_s * NS_PER_S),
                publish=config.publish.findings_enabled,
                retain_open=config.publish.retain_open,
                qos=config.publish.qos,
            ),
            archive_dir,
        )

    def build_order(self, shard: int, state: Any) -> OrderStage:
        """Return the order stage of a shard."""
        return OrderStage(shard, self.order, state)

    def build_detect(self, shard: int, state: Any) -> DetectStage:
        """Return the detect stage of a shard."""
        self.detecting.append(DetectStage.build(shard, self.detect, state))
        return self.detecting[-1]

    def build_bill(self, shard: int, state: Any) -> BillStage:
        """Return the bill stage of a shard."""
        folder = self.archive_dir
        archive: Archive = open_archive(folder, shard) if folder else MemoryArchive(goes_back=False)
        return BillStage(shard, self.bill, archive, state)

    def build_control(self, shard: int, state: Any) -> ControlStage:
        """Return the control stage of a shard."""
        return ControlStage(shard, self.control, state)

    def build_maintain(self, shard: int, state: Any) -> MaintainStage:
        """Return the maintain stage of a shard."""
        return MaintainStage(shard, self.wear, state)

    def build_emit(self, shard: int, state: Any) -> EmitStage:
        """Return the emit stage of a shard."""
        return EmitStage(shard, self.emit, state)


def _signatures(config: Config) -> Signatures | None:
    """Return how signed values are checked: with the keys that are registered now."""
    mode, file = config.billing.signed_values, config.billing.meter_keys
    if mode == "ignore":
        return None
    keys = registered_keys(config.ledger_url())
    return Signatures(register(keys + (read_keys(Path(file)) if file else [])), mode)


def _prices(config: Config) -> PriceSeries | None:
    """Return the market prices of the billing section."""
    files = config.billing.price_files
    try:
        return read_price_files([Path(name) for name in files]) if files else None
    except (OSError, TariffError) as error:
        raise ConfigError(f"[billing] price_files: {error}") from error


def build_flow(stages: Stages, journal: Journal, settings: SourceSettings) -> Flow:
    """Return the flow; step names are keys of saved state and never change."""
    return (
        Flow("chargestream", journal, settings)
        .stage("order", stages.build_order)
        .stage("detect", stages.build_detect)
        .stage("bill", stages.build_bill)
        .stage("control", stages.build_control)
        .stage("maintain", stages.build_maintain)
        .stage("emit", stages.build_emit)
    )
