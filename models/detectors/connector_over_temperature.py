"""Plug too hot: an AC plug at 65 °C or a DC plug at 90 °C for two samples and 30 s; critical at 80 and
100 °C.

The hotter of the plug's sensors (``Temperature/Cable``, ``Temperature/Outlet``) decides; a sensor at 150
°C and above, or at -40 °C and below, has failed and says nothing. The severity of a finding does not fall
while it is open. AC or DC is the inventory's word; an EVSE that none declared is taken as AC, the lower
limit: this code is about safety, so not knowing counts as the worse case.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from models.channels import CHANNEL_ID
from models.detecting import DetectorSpec

from ._base import require
from ._temperature import EVIDENCE, Limits, TemperatureDetector, lasting

SPEC = DetectorSpec(
    "connector_over_temperature",
    "evse",
    "rule",
    (CHANNEL_ID["Temperature/Cable"], CHANNEL_ID["Temperature/Outlet"]),
    (*EVIDENCE, "sensor"),
    needs_channels=True,
)


@dataclass(frozen=True, slots=True)
class Config:
    """Limits of `connector_over_temperature`.

    Attributes
    ----------
    ac_warning_c, ac_critical_c : float
        Limits of an AC plug. Unit: Celsius. Default 65 and 80. Source: controllers throttle at 65 °C
        (OpenEVSE) and a wall connector halves its current above it (Tesla); IEC 62196-1 allows 50 K rise
        at the terminals.
    dc_warning_c, dc_critical_c : float
        Limits of a DC plug. Unit: Celsius. Default 90 and 100. Source: 90 °C at the contacts of CCS plugs
        (IEC 62196-3-1).
    least_samples : int
        Samples that the condition must last. Unit: samples. Default 2. Source: CONVENTIONS.
    least_s : float
        Time that it must last. Unit: s. Default 30. Source: CONVENTIONS.
    hold_s : float
        Clear after this long below the warning limit. Unit: s. Default 60. Source: CONVENTIONS, max(raise
        duration, 60 s).
    gap_s : float
        Two samples further apart are not one run. Unit: s. Default 1800. Source: twice the slowest usual
        meter interval (OCPP aligned data, 900 s).
    failed_high_c, failed_low_c : float
        A sensor at or beyond these has failed. Unit: Celsius. Default 150 and -40. Source: CONVENTIONS,
        channels.
    """

    ac_warning_c: float = 65.0
    ac_critical_c: float = 80.0
    dc_warning_c: float = 90.0
    dc_critical_c: float = 100.0
    least_samples: int = 2
    least_s: float = 30.0
    hold_s: float = 60.0
    gap_s: float = 1800.0
    failed_high_c: float = 150.0
    failed_low_c: float = -40.0

    def __post_init__(self) -> None:
        require(
            self,
            ac_warning_c=(30.0, 149.0),
            ac_critical_c=(30.0, 149.0),
            dc_warning_c=(30.0, 149.0),
            dc_critical_c=(30.0, 149.0),
            least_samples=(1, 1000),
            least_s=(0.0, 3600.0),
            hold_s=(1.0, 86_400.0),
            gap_s=(1.0, 86_400.0),
            failed_high_c=(100.0, 1000.0),
            failed_low_c=(-273.0, 0.0),
        )


class _Detector(TemperatureDetector):
    spec = SPEC

    def __init__(self, config: Config, resume_state: dict[str, Any] | None) -> None:
        self._rule = lasting(config)
        self._limits = Limits(
            float(config.ac_warning_c),
            float(config.ac_critical_c),
            float(config.dc_warning_c),
            float(config.dc_critical_c),
            float(config.failed_high_c),
            float(config.failed_low_c),
        )
        super().__init__(resume_state)


def build(config: Config, resume_state: dict[str, Any] | None = None) -> TemperatureDetector:
    """Return the detector, with the state of `resume_state` if given."""
    return _Detector(config, resume_state)
