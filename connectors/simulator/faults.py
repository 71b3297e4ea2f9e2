"""The catalogue of faults that can be injected, by finding code.

A new code is one `Fault` subclass and its line in `FAULTS`.
"""

from __future__ import annotations

from typing import Final

from models.errors import ConfigError

from . import fault_connector as connector
from . import fault_link as link
from . import fault_meter as meter
from . import fault_station as station
from . import fault_supply as supply
from .fault_base import SEVERITIES, Fault, Parts

FAULTS: Final[dict[str, type[Fault]]] = {
    fault.code: fault
    for fault in (
        supply.UnderVoltage,
        supply.OverVoltage,
        supply.VoltageDip,
        supply.VoltageUnbalance,
        supply.FrequencyDeviation,
        supply.SourceImpedance,
        supply.OverCurrent,
        supply.AuxSupply,
        supply.SitePowerEvent,
        supply.PhaseOpen,
        connector.ConnectorOverTemperature,
        connector.ContactResistance,
        connector.CabinetOverTemperature,
        connector.SilentDerate,
        connector.ContactorWelded,
        connector.ContactorStuckOpen,
        connector.PilotOutOfBand,
        connector.PilotJitter,
        connector.DiodeFault,
        connector.ProximityOutOfRange,
        connector.PhantomPlugCycles,
        connector.StartFailures,
        connector.IsolationLow,
        connector.CapacitanceHigh,
        connector.ConductorAging,
        connector.ResidualCurrentRising,
        connector.ResidualCurrentTrip,
        meter.RegisterRollback,
        meter.RegisterStuck,
        meter.RegisterMismatch,
        meter.PowerMismatch,
        meter.ValueFrozen,
        link.Offline,
        link.MessageLoss,
        link.Flapping,
        link.RebootLoop,
        link.ClockError,
        link.WeakSignal,
        link.CadenceShift,
        station.StationReported,
        station.EvCommunication,
        station.SubDevice,
        station.LockFailure,
        station.BrokenLatch,
        station.CableCut,
    )
}


def find(code: str) -> type[Fault]:
    """Return the fault of a finding code.

    Raises
    ------
    ConfigError
        If there is none.
    """
    fault = FAULTS.get(code)
    if fault is None:
        raise ConfigError(f"simulator: no fault {code!r}; there are {', '.join(sorted(FAULTS))}")
    return fault


__all__ = ["FAULTS", "SEVERITIES", "Fault", "Parts", "find"]
