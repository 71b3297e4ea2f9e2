"""What a managed site is: its tree of panels, its EVSEs, its other load and how it is to be run."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Final

#: Positions of the phases of a site in every array with an axis of phases.
PHASES: Final = ("L1", "L2", "L3")
ROOT: Final = "grid"
#: The least current a vehicle may be offered, A (IEC 61851-1: 10 % duty cycle); less is a pause.
LEAST_A: Final = 6.0


@dataclass(frozen=True, slots=True)
class Panel:
    """A distribution panel: no phase behind it may carry more than `limit_a` (L1, L2, L3)."""

    name: str
    parent: str
    limit_a: tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class Outlet:
    """An EVSE under management.

    Attributes
    ----------
    station, evse : str, int
        `evse` 0: every EVSE of the station.
    panel : str
    wiring : tuple of int
        Phase of the site (0, 1, 2) on each leg of the station, in order: (1, 2, 0) is a station rotated by
        one phase, (1,) one on L2 alone.
    max_a, min_a : float
        Most and least A per phase; less than `min_a` is a pause.
    fallback_a : float
        What the station allows by itself when nobody tells it otherwise: 0 or at least `min_a`.
    priority : int
        0 comes first.
    dc : bool
        Limits are sent in W (of the grid side, all phases together).
    """

    station: str
    evse: int
    panel: str = ROOT
    wiring: tuple[int, ...] = (0, 1, 2)
    max_a: float = 32.0
    min_a: float = LEAST_A
    fallback_a: float = 0.0
    priority: int = 1
    dc: bool = False


@dataclass(frozen=True, slots=True)
class OtherLoad:
    """The load of a site that is not charging.

    Attributes
    ----------
    station, evse : str, int
        The meter, as a node of the site with currents per phase; "" when there is none.
    grid : bool
        The meter is that of the grid connection: the charging is in its currents and is taken off.
    profile_a : tuple of float
        A per phase in each UTC hour of the day, where there is no meter: 24 values, 1, or none (0 A).
    worst_a : float
        Counted per phase while the meter is silent; fallbacks must fit beside it.
    rise_a : float
        Kept free per phase for what it may grow by while control is lost and limits still run.
    """

    station: str = ""
    evse: int = 1
    grid: bool = False
    profile_a: tuple[float, ...] = ()
    worst_a: float = 0.0
    rise_a: float = 0.0

    def profile(self, time_ms: int) -> float:
        """Return what the profile says of a moment, A per phase."""
        if not self.profile_a:
            return 0.0
        return self.profile_a[time_ms // 3_600_000 % 24 % len(self.profile_a)]


@dataclass(frozen=True, slots=True)
class Price:
    """A price per kWh between two minutes of the local day; a window may run over midnight."""

    from_min: int
    to_min: int
    price: float

    def covers(self, minute: int) -> bool:
        """Return whether a minute of the local day lies in [from, to)."""
        if self.from_min < self.to_min:
            return self.from_min <= minute < self.to_min
        return minute >= self.from_min or minute < self.to_min


@dataclass(frozen=True, slots=True)
class SiteSettings:
    """A site under load management. Defaults are those of the configuration.

    Attributes
    ----------
    panels : tuple of Panel
        The first is the grid connection, named `ROOT`.
    outlets : tuple of Outlet
    manage_all : bool
        EVSEs that are not listed are managed too, at the grid connection, with `defaults`.
    voltage_v : float
        Between a phase and neutral.
    demand_limit_kw : float
        Most mean power of a clock-aligned quarter hour; 0: none.
    demand_margin : float
        Share of it that is not used.
    interval_s : float
        Between two decisions; an overload is decided on at the next second.
    reaction_s : float
        From an accepted limit to the current being below it: delivery, station and vehicle (IEC 61851-1 gives
        the vehicle 5 s).
    valid_s, renew_s : float
        How long a limit runs at the station without being renewed, and how long before its end it is.
    stale_s : float
        A vehicle whose readings are older is not given more than the fallback.
    ask_expires_s : float
        A command that has not been sent by then is not sent.
    commands_per_min : int
        Of the whole site; lowering limits in an overload is not held back by it, though it counts.
    ramp_a_per_s : float
        Fastest rise of a limit.
    hysteresis_a : float
        Smaller changes are not sent.
    rotation_s : float
        When not everyone fits, a vehicle keeps its turn this long.
    idle_s : float
        A vehicle that was offered current and took none for this long has finished: others come first.
    shift : bool
        Vehicles with a departure and an energy wanted charge in the cheapest quarters before it.
    commissioned : bool
        Stations hold their fallback since they were installed: it need not be sent first.
    prices : tuple of Price
        By local time; what no window covers costs `base_price`.
    """

    site: str
    panels: tuple[Panel, ...]
    outlets: tuple[Outlet, ...] = ()
    manage_all: bool = True
    defaults: Outlet = field(default_factory=lambda: Outlet("", 0))
    other: OtherLoad = field(default_factory=OtherLoad)
    voltage_v: float = 230.0
    demand_limit_kw: float = 0.0
    demand_margin: float = 0.01
    interval_s: float = 10.0
    reaction_s: float = 8.0
    valid_s: float = 180.0
    renew_s: float = 50.0
    stale_s: float = 60.0
    ask_expires_s: float = 20.0
    commands_per_min: int = 60
    ramp_a_per_s: float = 1.0
    hysteresis_a: float = 1.0
    rotation_s: float = 900.0
    idle_s: float = 300.0
    shift: bool = False
    prices: tuple[Price, ...] = ()
    base_price: float = 0.0
    time_zone: str = "UTC"
    commissioned: bool = False

    def outlet(self, station: str, evse: int) -> Outlet | None:
        """Return the settings of an EVSE; None when it is not managed."""
        named = {(outlet.station, outlet.evse): outlet for outlet in self.outlets}
        found = named.get((station, evse)) or named.get((station, 0))
        return found if found or not self.manage_all else self.defaults

    def lines(self) -> list[tuple[int, ...]]:
        """Return for each panel the positions of itself and of those it hangs from, up to the root."""
        place = {panel.name: i for i, panel in enumerate(self.panels)}
        return [_upward(self.panels, place, i) for i in range(len(self.panels))]


def _upward(panels: tuple[Panel, ...], place: dict[str, int], start: int) -> tuple[int, ...]:
    found, at = [start], start
    while at:
        at = place[panels[at].parent]
        found.append(at)
    return tuple(found)


def mistakes(settings: SiteSettings) -> list[str]:
    """Return what is wrong with a site's settings, a line each: no tree, fallbacks that do not fit."""
    found = _tree_mistakes(settings.panels)
    known = {panel.name for panel in settings.panels}
    seen: set[tuple[str, int]] = set()
    for outlet in settings.outlets:
        name = f"station {outlet.station!r} EVSE {outlet.evse}"
        if outlet.panel not in known:
            found.append(f"{name}: panel {outlet.panel!r} is not one of {', '.join(sorted(known))}")
        if (outlet.station, outlet.evse) in seen:
            found.append(f"{name}: listed twice; expected once")
        seen.add((outlet.station, outlet.evse))
        found += [f"{name}: {line}" for line in _outlet_mistakes(outlet)]
    found += [f"EVSEs that are not listed: {line}" for line in _outlet_mistakes(settings.defaults)]
    if settings.renew_s >= settings.valid_s:
        found.append(f"renew_s = {settings.renew_s:g}: expected less than valid_s = {settings.valid_s:g}")
    if len(settings.other.profile_a) not in (0, 1, 24):
        found.append("other_profile_a: expected one value or 24, one for each UTC hour")
    return found or fallback_mistakes(settings, settings.outlets)


def fallback_mistakes(settings: SiteSettings, outlets: tuple[Outlet, ...]) -> list[str]:
    """Return where the fallbacks of `outlets` do not fit beside the worst other load: a line each."""
    found = []
    lines, place = settings.lines(), {panel.name: i for i, panel in enumerate(settings.panels)}
    for i, panel in enumerate(settings.panels):
        behind = [outlet for outlet in outlets if i in lines[place[outlet.panel]]]
        other = settings.other.worst_a if i == 0 else 0.0
        for phase in range(3):
            held = math.fsum(outlet.fallback_a for outlet in behind if phase in outlet.wiring)
            if held and held + other > panel.limit_a[phase]:
                beside = f" beside {other:g} A of other load" if other else ""
                found.append(
                    f"panel {panel.name!r}: fallbacks add up to {held:g} A on {PHASES[phase]}{beside}, more"
                    f" than its {panel.limit_a[phase]:g} A; lower fallback_a (0 pauses when control is lost)"
                )
                break
    return found


def _tree_mistakes(panels: tuple[Panel, ...]) -> list[str]:
    found = []
    names = [panel.name for panel in panels]
    parent = {panel.name: panel.parent for panel in panels[1:]}
    for i, panel in enumerate(panels):
        if panel.name in names[:i]:
            found.append(f"panel {panel.name!r}: named twice; expected names that differ")
        if i and panel.parent not in names:
            found.append(f"panel {panel.name!r}: parent {panel.parent!r} is not a panel of the site")
        at, steps = panel.name, 0
        while at in parent and steps <= len(panels):
            at, steps = parent[at], steps + 1
        if steps > len(panels):
            found.append(f"panel {panel.name!r}: hangs from itself; expected a tree below {ROOT!r}")
    return found


def _outlet_mistakes(outlet: Outlet) -> list[str]:
    found = []
    if len(set(outlet.wiring)) != len(outlet.wiring) or not outlet.wiring:
        found.append("wiring: expected each phase at most once, such as L2L3L1 or L2")
    if outlet.min_a > outlet.max_a:
        found.append(f"min_a = {outlet.min_a:g}: expected at most max_a = {outlet.max_a:g}")
    if outlet.fallback_a and outlet.fallback_a < outlet.min_a:
        found.append(
            f"fallback_a = {outlet.fallback_a:g}: expected 0 (pause) or at least min_a = {outlet.min_a:g}"
        )
    if outlet.fallback_a > outlet.max_a:
        found.append(f"fallback_a = {outlet.fallback_a:g}: expected at most max_a = {outlet.max_a:g}")
    return found
