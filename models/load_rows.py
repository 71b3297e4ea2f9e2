"""What load management puts into the outbox, and what an operator asks of it (``_op/load``)."""

from __future__ import annotations

from typing import Annotated

import msgspec


class LimitRow(msgspec.Struct, frozen=True, kw_only=True):
    """The limit in force at an EVSE with a vehicle, from a moment on; stored beside its energy.

    Natural key: (site, station, evse, from_ms). `limit_a` is A per phase, 0: paused; None: nobody limits it
    any longer (the vehicle left). `cause` is one of `models.load.REASONS`.
    """

    site: str
    station: str
    evse: int
    from_ms: int
    limit_a: float | None
    cause: str
    transaction_id: str = ""


class LoadRow(msgspec.Struct, frozen=True, kw_only=True):
    """A managed site in one minute. Natural key: (site, start_ms). Currents are A on L1, L2, L3."""

    site: str
    start_ms: int
    limit_a: tuple[float, float, float]
    current_a: tuple[float, float, float]  # measured, other load included, at the end of the minute
    other_a: tuple[float, float, float]
    held_a: tuple[float, float, float]  # what it may come to if control is lost now
    ev_kw: float
    site_kw: float
    quarter_kwh: float  # so far
    projected_kw: float  # mean of the quarter
    peak_kw: float  # highest quarter so far
    demand_limit_kw: float | None
    charging: int
    waiting: int
    lost: int  # counted at what they may draw: silent, offline, disobeying, fallback not confirmed
    commands: int  # asked for within the last minute


class LoadRequest(msgspec.Struct, frozen=True, kw_only=True):
    """An operator's wish: a limit for a site, or for one EVSE a limit, a departure, an energy, a class.

    Without `until_ms` a limit holds for a day; a moment that is past ends one. What is None stays as it is;
    departure, energy and class are the vehicle's that is there now.
    """

    site: str
    by: str = ""
    station: str = ""
    evse: int = 1
    limit_a: Annotated[float, msgspec.Meta(ge=0, le=10_000)] | None = None
    until_ms: Annotated[int, msgspec.Meta(ge=0, le=4_102_444_800_000)] | None = None
    departure_ms: Annotated[int, msgspec.Meta(ge=0, le=4_102_444_800_000)] | None = None
    energy_wh: Annotated[float, msgspec.Meta(ge=0, le=1e7)] | None = None
    priority: Annotated[int, msgspec.Meta(ge=0, le=999)] | None = None
