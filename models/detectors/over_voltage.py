"""Supply voltage too high: a phase's ten-minute mean above 1.10 Un, or its one-minute mean above 1.15 Un.

Windows, phases, start, clear and readings that say nothing are those of `under_voltage`. An EVSE that no
birth declared is judged by the limits of a 240 V grid.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from models.detecting import DetectorSpec
from models.errors import ConfigError

from ._base import GRID_CHANNELS, require
from ._voltage import EVIDENCE, VoltageDetector, limits

SPEC = DetectorSpec("over_voltage", "evse", "rule", GRID_CHANNELS, EVIDENCE, needs_channels=True)


@dataclass(frozen=True, slots=True)
class Config:
    """Limits of `over_voltage`.

    Attributes
    ----------
    ten_min_pu : float
        Ten-minute mean above this share of Un raises. Unit: 1 (per unit). Default 1.10. Source: EN 50160,
        95 % of the ten-minute means of a week within +-10 %.
    one_min_pu : float
        One-minute mean above this share raises. Unit: 1 (per unit). Default 1.15. Source: CONVENTIONS;
        above EN 50160's hard +10 % by a tolerance for the meter and for swells.
    unpowered_pu : float
        Readings with all phases below this share say nothing. Unit: 1 (per unit). Default 0.05. Source:
        EN 50160, interruption below 5 %.
    ten_min_samples : int
        Samples that a ten-minute mean needs. Unit: samples. Default 3. Source: CONVENTIONS, means.
    undeclared_v : float
        Un taken for EVSEs without inventory. Unit: V. Default 240. Source: highest common nominal voltage
        of the 200 V class (IEC 60038, ANSI C84.1).
    stale_s : float
        A window that ended longer ago than this when it could be judged is no live finding. Unit: s.
        Default 900. Source: CONVENTIONS, live_max_age_s.
    """

    ten_min_pu: float = 1.10
    one_min_pu: float = 1.15
    unpowered_pu: float = 0.05
    ten_min_samples: int = 3
    undeclared_v: float = 240.0
    stale_s: float = 900.0

    def __post_init__(self) -> None:
        require(
            self,
            ten_min_pu=(1.0, 2.0),
            one_min_pu=(1.0, 2.0),
            unpowered_pu=(0.0, 0.5),
            ten_min_samples=(1, 600),
            undeclared_v=(50.0, 1000.0),
            stale_s=(60.0, 86_400.0),
        )
        if self.one_min_pu < self.ten_min_pu:
            raise ConfigError(
                f"[detectors.over_voltage] one_min_pu = {self.one_min_pu} is below ten_min_pu ="
                f" {self.ten_min_pu}: the shorter window has the wider limit"
            )


def build(config: Config, resume_state: dict[str, Any] | None = None) -> VoltageDetector:
    """Return the detector, with the state of `resume_state` if given."""
    return VoltageDetector(SPEC, limits(config, 1.0, config.undeclared_v, 0.0), resume_state)
