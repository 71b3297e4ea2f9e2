"""The table of measured channels: wire name, canonical unit, field name, decimals kept.

A channel is ``Measurand[@phase][/location]`` as OCPP spells it; ``x.`` marks extensions. The
position in `CHANNELS` is the channel id used in `models.batch.ReadingBatch.slot_of`. Append only:
ids are stored in snapshots.
"""

from __future__ import annotations

from typing import Final, NamedTuple


class Channel(NamedTuple):
    """One measured quantity of an EVSE."""

    name: str
    unit: str
    field: str
    decimals: int


CHANNELS: Final[tuple[Channel, ...]] = (
    Channel("Voltage", "V", "voltage_v", 3),
    Channel("Voltage@L1-N", "V", "voltage_l1_v", 3),
    Channel("Voltage@L2-N", "V", "voltage_l2_v", 3),
    Channel("Voltage@L3-N", "V", "voltage_l3_v", 3),
    Channel("Voltage@L1-L2", "V", "voltage_l1_l2_v", 3),
    Channel("Voltage@L2-L3", "V", "voltage_l2_l3_v", 3),
    Channel("Voltage@L3-L1", "V", "voltage_l3_l1_v", 3),
    Channel("Voltage/Inlet", "V", "inlet_voltage_v", 3),
    Channel("Voltage@L1-N/Inlet", "V", "inlet_voltage_l1_v", 3),
    Channel("Voltage@L2-N/Inlet", "V", "inlet_voltage_l2_v", 3),
    Channel("Voltage@L3-N/Inlet", "V", "inlet_voltage_l3_v", 3),
    Channel("Voltage/EV", "V", "ev_voltage_v", 3),
    Channel("Current.Import", "A", "current_a", 3),
    Channel("Current.Import@L1", "A", "current_l1_a", 3),
    Channel("Current.Import@L2", "A", "current_l2_a", 3),
    Channel("Current.Import@L3", "A", "current_l3_a", 3),
    Channel("Current.Import@N", "A", "current_n_a", 3),
    Channel("Current.Offered", "A", "current_offered_a", 3),
    Channel("Current.Export", "A", "current_export_a", 3),
    Channel("Power.Active.Import", "W", "power_w", 3),
    Channel("Power.Active.Import@L1", "W", "power_l1_w", 3),
    Channel("Power.Active.Import@L2", "W", "power_l2_w", 3),
    Channel("Power.Active.Import@L3", "W", "power_l3_w", 3),
    Channel("Power.Active.Import/Inlet", "W", "inlet_power_w", 3),
    Channel("Power.Active.Export", "W", "power_export_w", 3),
    Channel("Power.Offered", "W", "power_offered_w", 3),
    Channel("Power.Reactive.Import", "var", "power_reactive_var", 3),
    Channel("Power.Factor", "1", "power_factor", 4),
    Channel("Energy.Active.Import.Register", "Wh", "energy_import_wh", 3),
    Channel("Energy.Active.Export.Register", "Wh", "energy_export_wh", 3),
    Channel("Energy.Active.Import.Interval", "Wh", "energy_interval_wh", 3),
    Channel("Frequency", "Hz", "frequency_hz", 4),
    Channel("SoC", "Percent", "soc_percent", 2),
    Channel("Temperature/Cable", "Celsius", "temperature_cable_c", 2),
    Channel("Temperature/Outlet", "Celsius", "temperature_outlet_c", 2),
    Channel("Temperature/Body", "Celsius", "temperature_body_c", 2),
    Channel("Temperature/EV", "Celsius", "temperature_ev_c", 2),
    Channel("Temperature/Inlet", "Celsius", "temperature_inlet_c", 2),
    Channel("x.CP.V", "V", "pilot_v", 3),
    Channel("x.CP.Low.V", "V", "pilot_low_v", 3),
    Channel("x.PP.V", "V", "proximity_v", 3),
    Channel("x.Residual.DC", "mA", "residual_dc_ma", 3),
    Channel("x.Residual.AC", "mA", "residual_ac_ma", 3),
    Channel("x.Isolation.R", "kOhm", "isolation_kohm", 3),
    Channel("x.Isolation.C", "uF", "isolation_uf", 4),
    Channel("x.Output.V", "V", "output_v", 3),
    Channel("x.Contactor.Cycles", "1", "contactor_cycles", 0),
    Channel("x.RSSI", "dBm", "rssi_dbm", 1),
    Channel("x.Supply12V", "V", "supply_12_v", 3),
    Channel("RPM", "1/min", "fan_rpm", 1),
)

N_CHANNELS: Final = len(CHANNELS)

#: Wire name -> channel id.
CHANNEL_ID: Final[dict[str, int]] = {channel.name: i for i, channel in enumerate(CHANNELS)}

#: The import register travels as integer mWh in `ReadingBatch.reg_mwh`, never as a float column.
REGISTER_CHANNEL: Final = CHANNEL_ID["Energy.Active.Import.Register"]
