"""Settings of maintenance: intervals of inspections, lives of parts, what counts as warm."""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator

from models.maintenance import MaintenanceConfig
from models.wear import WearConfig

from .config_sections import Section, clash


class MaintenanceSection(Section):
    """Wear of each EVSE, inspections due, visits worth making."""

    inspect_every_days: float = Field(
        365.0, ge=1, le=36_500, description="Time between inspections; our choice, national rules may differ."
    )
    inspect_every_cycles: int = Field(
        2_500, ge=1, le=10_000_000, description="Plug cycles between inspections; a quarter of a plug's life."
    )
    inspect_every_kwh: float = Field(
        100_000.0, ge=1, le=1e9, description="Energy between inspections; about a year of a busy 50 kW plug."
    )
    plug_life_cycles: int = Field(
        10_000, ge=1, le=10_000_000, description="Operations of plug and socket; IEC 62196-1."
    )
    contactor_life_operations: int = Field(
        100_000, ge=1, le=100_000_000, description="Of a contactor at rated current; see its data sheet."
    )
    hot_life_hours: float = Field(
        500.0, ge=1, le=1_000_000, description="At hot_c or more, after which contacts count as worn."
    )
    recent_days: float = Field(
        30.0, ge=1, le=3_650, description="Cleared findings count for this long, less and less."
    )
    visit_connectors: int = Field(10, ge=1, le=1_000, description="How many connectors a plan of visits has.")
    warm_c: float = Field(50.0, ge=0, le=149, description="Plug temperature from which warm hours count.")
    hot_c: float = Field(65.0, ge=0, le=149, description="Plug temperature from which hot hours count.")
    body_hot_c: float = Field(60.0, ge=0, le=149, description="Cabinet temperature from which hours count.")
    gap_s: float = Field(
        1_800.0, ge=1, le=43_200, description="Readings further apart say nothing of the time between."
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.hot_c < self.warm_c:
            raise clash("hot_c", f"at least warm_c = {self.warm_c:g}")
        return self

    def wear(self) -> WearConfig:
        """Return what the flow counts by."""
        return WearConfig(self.warm_c, self.hot_c, self.body_hot_c, self.gap_s)

    def rules(self) -> MaintenanceConfig:
        """Return what is judged by."""
        return MaintenanceConfig(
            self.inspect_every_days,
            self.inspect_every_cycles,
            self.inspect_every_kwh,
            self.plug_life_cycles,
            self.contactor_life_operations,
            self.hot_life_hours,
            self.recent_days,
            self.visit_connectors,
        )
