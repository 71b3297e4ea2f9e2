"""Plain data that the naive twins of detectors read and write: standard library only."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

S = 1_000_000_000  # ns


@dataclass(frozen=True)
class Evse:
    """An EVSE and what is declared of it at the time of a reading."""

    row: int
    station: int
    node: int
    declared: bool = True
    u_n_v: float = 230.0
    phases: int = 3
    dc: bool = False
    resolution_mwh: int = 1000
    modulus_mwh: int = 0
    p_max_w: float | None = 22_080.0
    generation: int = 0
    sample_s: float | None = None
    conn_type: str = "IEC_62196_T2"
    max_a: float = 32.0


@dataclass(frozen=True)
class Reading:
    """One timestamped set of channels of one EVSE; a missing value is not in `values`, or NaN."""

    about: Evse
    time_ns: int
    order: int
    effect_ns: int
    live: bool
    values: dict[str, float]
    reg_mwh: int | None = None
    state: int = 0  # context bits of `models.batch`


@dataclass(frozen=True)
class Message:
    """A message, or a tick (node -1)."""

    order: int
    recv_ns: int
    effect_ns: int
    node: int = -1
    kind: str = "tick"
    boot: int = -1
    seq: int = -1
    live: bool = True
    duplicate: bool = False
    skew_ns: int | None = None  # arrival minus the station's clock, of heartbeats that carry it


@dataclass
class Story:
    """A stream and the devices in it.

    `sites`, `nodes` (site row, name), `stations` (site row, name, node row) and `evses` (station row, id) are
    by row.
    """

    sites: list[str] = field(default_factory=list)
    nodes: list[tuple[int, str]] = field(default_factory=list)
    stations: list[tuple[int, str, int]] = field(default_factory=list)
    evses: list[tuple[int, int]] = field(default_factory=list)
    readings: list[Reading] = field(default_factory=list)
    messages: list[Message] = field(default_factory=list)
    records: list[Any] = field(default_factory=list)

    def by_evse(self) -> list[list[Reading]]:
        """Return the readings of each EVSE in time order."""
        found: dict[int, list[Reading]] = {}
        for reading in self.readings:
            found.setdefault(reading.about.row, []).append(reading)
        return [sorted(found[row], key=lambda r: r.time_ns) for row in sorted(found)]


class Expected(NamedTuple):
    """One emission, in plain words."""

    order: int
    code: str
    scope: str
    subject: int
    kind: str  # raise, update, clear
    severity: str
    live: bool
    start_ns: int
    time_ns: int
    evidence: dict[str, Any]
    planned: bool = False
    taxonomy: str | None = None


def grid_voltages(reading: Reading) -> dict[int, float]:
    """Return phase -> line-to-neutral voltage of the grid side of a reading."""
    where = "/Inlet" if reading.about.dc else ""
    found = {p: reading.values.get(f"Voltage@L{p}-N{where}") for p in (1, 2, 3)}
    out = {p: v for p, v in found.items() if v is not None and v == v}
    plain = reading.values.get(f"Voltage{where}")
    if reading.about.phases == 1 and plain is not None and plain == plain and 1 not in out:
        out[1] = plain
    return out


def through_plug(reading: Reading) -> float | None:
    """Return the current through the plug: the greatest phase or the one without phase; DC: the output."""
    phased = [
        a for p in (1, 2, 3) if (a := reading.values.get(f"Current.Import@L{p}")) is not None and a == a
    ]
    if phased and not reading.about.dc:
        return max(phased)
    plain = reading.values.get("Current.Import")
    return plain if plain is not None and plain == plain else None
