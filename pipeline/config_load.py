"""Settings of load management: sites with their panels, stations, other load and prices."""

from __future__ import annotations

import re
from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator
from pydantic_core import PydanticCustomError

from models.load_settings import PHASES, ROOT, OtherLoad, Outlet, Panel, Price, SiteSettings, mistakes

from .config_sections import Section, clash

_WIRING = r"^(L[123]){1,3}$"
_CLOCK = r"^([01][0-9]|2[0-3]):[0-5][0-9]-([01][0-9]|2[0-4]):[0-5][0-9]$"


class LoadPanelSection(Section):
    """A distribution panel below the grid connection."""

    name: str = Field(..., min_length=1, description="Name of the panel.")
    parent: str = Field(ROOT, min_length=1, description="Panel that feeds it; grid: the grid connection.")
    limit_a: float = Field(..., ge=0, le=10_000, description="Most current on each of its phases.")


class LoadStationSection(Section):
    """A station or one of its EVSEs, where it differs from the others of its site."""

    station: str = Field(..., min_length=1, description="Name of the station.")
    evse: int = Field(0, ge=0, le=1000, description="EVSE; 0: all of the station.")
    panel: str = Field(ROOT, min_length=1, description="Panel that feeds it.")
    wiring: str = Field(
        "L1L2L3",
        pattern=_WIRING,
        description="Phase of the site on each leg, such as L2L3L1 (rotated) or L2.",
    )
    max_a: float = Field(32.0, ge=6, le=1000, description="Most current per phase.")
    min_a: float = Field(6.0, ge=6, le=100, description="Least current per phase; less is a pause.")
    fallback_a: float = Field(
        0.0, ge=0, le=1000, description="What the station allows by itself when control is lost; 0: nothing."
    )
    priority: int = Field(1, ge=0, le=999, description="0 comes first.")
    dc: bool = Field(False, description="Limits are sent in W.")


class LoadPriceSection(Section):
    """A price per kWh at a time of the local day."""

    hours: str = Field(..., pattern=_CLOCK, description="Local time, such as 22:00-06:00.")
    price: float = Field(..., ge=-100, le=100, description="Per kWh, in any currency; only order counts.")


class LoadSiteSection(Section):
    """A site whose load is managed."""

    site: str = Field(..., min_length=1, description="Name of the site in topics.")
    limit_a: float = Field(..., ge=6, le=10_000, description="Most current on each phase of the connection.")
    voltage_v: float = Field(230.0, ge=100, le=1000, description="Between a phase and neutral.")
    demand_limit_kw: float = Field(
        0.0, ge=0, le=100_000, description="Most mean power of a clock quarter; 0: no limit."
    )
    demand_margin_share: float = Field(
        0.01, ge=0, le=0.5, description="Share of the demand limit that is not used."
    )
    manage_all: bool = Field(True, description="Manage EVSEs that are not listed under stations, too.")
    max_a: float = Field(32.0, ge=6, le=1000, description="Most current per phase of EVSEs not listed.")
    fallback_a: float = Field(
        0.0, ge=0, le=1000, description="What EVSEs not listed allow by themselves; 0: nothing."
    )
    commissioned: bool = Field(
        False, description="Stations were installed with their fallback: it is not sent to them first."
    )
    meter: str = Field("", description="STATION or STATION/EVSE that measures other load; empty: none.")
    meter_measures: Literal["other", "grid"] = Field(
        "other", description="other: without the charging; grid: the whole connection."
    )
    other_profile_a: Annotated[tuple[float, ...], Field(strict=False)] = Field(
        (), max_length=24, description="Other load per phase without a meter: one value or 24 UTC hours."
    )
    other_worst_a: float = Field(
        0.0, ge=0, le=10_000, description="Other load per phase that is counted while its meter is silent."
    )
    other_rise_a: float = Field(
        0.0, ge=0, le=10_000, description="Kept free per phase: growth of other load while control is lost."
    )
    interval_s: float = Field(10.0, ge=1, le=300, description="Between decisions; an overload does not wait.")
    reaction_s: float = Field(
        8.0, ge=1, le=120, description="From an accepted limit to the current: station and vehicle."
    )
    valid_s: float = Field(180.0, ge=15, le=3600, description="How long a limit runs without being renewed.")
    renew_s: float = Field(50.0, ge=5, le=3000, description="How long before its end a limit is renewed.")
    stale_s: float = Field(60.0, ge=5, le=3600, description="Older readings are no longer gone by.")
    ask_expires_s: float = Field(20.0, ge=2, le=600, description="A command not sent by then is dropped.")
    commands_per_min: int = Field(60, ge=1, le=10_000, description="Limits sent to the site, at most.")
    ramp_a_per_s: float = Field(1.0, ge=0.01, le=100, description="Fastest rise of a limit.")
    hysteresis_a: float = Field(1.0, ge=0.1, le=10, description="Smaller changes are not sent.")
    rotation_s: float = Field(900.0, ge=60, le=86_400, description="A turn's length when not all fit.")
    idle_s: float = Field(300.0, ge=30, le=86_400, description="Taking nothing for this long is finished.")
    shift: bool = Field(False, description="Charge in the cheapest quarters before a known departure.")
    use_price_files: bool = Field(
        False, description="Prices are those of [billing] price_files, where known."
    )
    base_price: float = Field(0.0, ge=-100, le=100, description="Per kWh outside the windows of prices.")
    panels: Annotated[tuple[LoadPanelSection, ...], Field(strict=False)] = Field(
        (), max_length=200, description="Panels below the grid connection."
    )
    stations: Annotated[tuple[LoadStationSection, ...], Field(strict=False)] = Field(
        (), max_length=2000, description="Stations with settings of their own."
    )
    prices: Annotated[tuple[LoadPriceSection, ...], Field(strict=False)] = Field(
        (), max_length=96, description="Prices by local time of day; the first that fits counts."
    )

    @field_validator("meter")
    @classmethod
    def _meter(cls, value: str) -> str:
        if value and not re.fullmatch(r"[^/]+(/[0-9]{1,4})?", value):
            raise PydanticCustomError("address", "STATION or STATION/EVSE such as mainmeter/1")
        return value

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.demand_limit_kw and self.demand_limit_kw * 1000 > 3 * self.limit_a * self.voltage_v:
            most = 3 * self.limit_a * self.voltage_v / 1000
            raise clash("demand_limit_kw", f"at most what limit_a carries, {most:g} kW")
        found = mistakes(self.settings("UTC"))
        if found:
            raise clash("site", "; ".join(found))
        return self

    def settings(self, time_zone: str) -> SiteSettings:
        """Return the site as `models.load` takes it; prices are by local time of `time_zone`."""
        station, _, evse = self.meter.partition("/")
        other = OtherLoad(
            station=station,
            evse=int(evse or 1),
            grid=self.meter_measures == "grid",
            profile_a=self.other_profile_a,
            worst_a=self.other_worst_a,
            rise_a=self.other_rise_a,
        )
        panels = [Panel(ROOT, "", (self.limit_a,) * 3)]
        panels += [Panel(panel.name, panel.parent, (panel.limit_a,) * 3) for panel in self.panels]
        names = (
            "site", "manage_all", "voltage_v", "demand_limit_kw", "interval_s", "reaction_s", "valid_s",
            "renew_s", "stale_s", "ask_expires_s", "commands_per_min", "ramp_a_per_s", "hysteresis_a",
            "rotation_s", "idle_s", "shift", "commissioned", "base_price",
        )  # fmt: skip
        return SiteSettings(
            panels=tuple(panels),
            outlets=tuple(_outlet(station) for station in self.stations),
            defaults=Outlet("", 0, max_a=self.max_a, fallback_a=self.fallback_a),
            other=other,
            demand_margin=self.demand_margin_share,
            prices=tuple(_price(price) for price in self.prices),
            time_zone=time_zone,
            **{name: getattr(self, name) for name in names},
        )


class LoadSection(Section):
    """Load management: how much each EVSE of a site may draw."""

    sites: Annotated[tuple[LoadSiteSection, ...], Field(strict=False)] = Field(
        (), max_length=10_000, description="Managed sites, [[load.sites]]; of others nothing is limited."
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        names = [site.site for site in self.sites]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise clash("sites", f"each site once; {', '.join(twice)} comes twice")
        return self


def _outlet(section: LoadStationSection) -> Outlet:
    wiring = tuple(PHASES.index(section.wiring[i : i + 2]) for i in range(0, len(section.wiring), 2))
    return Outlet(
        section.station,
        section.evse,
        section.panel,
        wiring,
        section.max_a,
        section.min_a,
        section.fallback_a,
        section.priority,
        section.dc,
    )


def _price(section: LoadPriceSection) -> Price:
    start, end = ((int(t[:2]) * 60 + int(t[3:])) for t in section.hours.split("-"))
    return Price(start, end % 1440, section.price)
