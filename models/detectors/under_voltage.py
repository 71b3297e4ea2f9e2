"""Supply voltage too low: a phase's ten-minute mean below 0.90 Un, or its one-minute mean below 0.85 Un.

Means are over clock-aligned UTC windows: ten minutes of at least three samples, a minute of whatever came
(one sample is its own mean). A window is judged when the first reading after it arrives. The finding
starts at the first sample below 0.90 Un in the window that raised it, and clears after a whole window
(ten minutes if a ten-minute mean was low, else one) without a low mean.

Judged are line-to-neutral voltages of the grid side: ``Voltage@Lx-N`` of AC EVSEs, ``Voltage@Lx-N/Inlet``
of DC ones, and the same without phase where the inventory declares one phase. A reading with all its
phases below 5 % of Un is an interruption or a meter without supply (behind an open contactor), not a low
voltage: it says nothing here; loss of supply shows as silence or as the station's own report.

An EVSE that no birth declared may hang on a 208, 230 or 240 V grid, or on 100 to 127 V: its limits are
those of 208 V, and below 150 V nothing is said of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from models.detecting import DetectorSpec
from models.errors import ConfigError

from ._base import GRID_CHANNELS, require
from ._voltage import EVIDENCE, VoltageDetector, limits

SPEC = DetectorSpec("under_voltage", "evse", "rule", GRID_CHANNELS, EVIDENCE, needs_channels=True)


@dataclass(frozen=True, slots=True)
class Config:
    """Limits of `under_voltage`.

    Attributes
    ----------
    ten_min_pu : float
        Ten-minute mean below this share of Un raises. Unit: 1 (per unit). Default 0.90. Source: EN 50160,
        95 % of the ten-minute means of a week within +-10 %.
    one_min_pu : float
        One-minute mean below this share raises. Unit: 1 (per unit). Default 0.85. Source: EN 50160,
        +10/-15 % always.
    unpowered_pu : float
        Readings with all phases below this share say nothing. Unit: 1 (per unit). Default 0.05. Source:
        EN 50160, interruption below 5 %.
    ten_min_samples : int
        Samples that a ten-minute mean needs. Unit: samples. Default 3. Source: CONVENTIONS, means.
    undeclared_v : float
        Un taken for EVSEs without inventory. Unit: V. Default 208. Source: lowest common nominal voltage
        of the 200 V class (IEC 60038, ANSI C84.1).
    undeclared_floor_v : float
        Voltages below this say nothing of EVSEs without inventory. Unit: V. Default 150. Source: 127 V +
        15 %, rounded.
    stale_s : float
        A window that ended longer ago than this when it could be judged is no live finding. Unit: s.
        Default 900. Source: CONVENTIONS, live_max_age_s.
    """

    ten_min_pu: float = 0.90
    one_min_pu: float = 0.85
    unpowered_pu: float = 0.05
    ten_min_samples: int = 3
    undeclared_v: float = 208.0
    undeclared_floor_v: float = 150.0
    stale_s: float = 900.0

    def __post_init__(self) -> None:
        require(
            self,
            ten_min_pu=(0.5, 1.0),
            one_min_pu=(0.5, 1.0),
            unpowered_pu=(0.0, 0.5),
            ten_min_samples=(1, 600),
            undeclared_v=(50.0, 1000.0),
            undeclared_floor_v=(0.0, 1000.0),
            stale_s=(60.0, 86_400.0),
        )
        if self.one_min_pu > self.ten_min_pu:
            raise ConfigError(
                f"[detectors.under_voltage] one_min_pu = {self.one_min_pu} is above ten_min_pu ="
                f" {self.ten_min_pu}: the shorter window has the wider limit"
            )


def build(config: Config, resume_state: dict[str, Any] | None = None) -> VoltageDetector:
    """Return the detector, with the state of `resume_state` if given."""
    return VoltageDetector(
        SPEC, limits(config, -1.0, config.undeclared_v, config.undeclared_floor_v), resume_state
    )
