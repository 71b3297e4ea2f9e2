"""The fault catalogue: every finding code with its meaning, severity, scope, advice and parents, and the
maps of station codes to ours.

Data only: detectors decide, `models.findings` joins what they say, docs and console show it. The maps
keep several taxonomies side by side: ChargeX MREC (``CX001``), OCPP 1.6 error codes, EVerest error types,
OCPP 2.x triggers.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, Literal

from .detecting import Scope

Severity = Literal["info", "warning", "critical"]


@dataclass(frozen=True, slots=True)
class Fault:
    """One finding code.

    Attributes
    ----------
    code, title : str
    group : str
        Connector, cable, supply, meter, communication or general.
    severity : str
        Of a finding whose detector has no reason for another.
    scopes : tuple of str
        What it may be about.
    meaning : str
        One sentence.
    advice : str
        What a technician should do.
    """

    code: str
    title: str
    group: str
    severity: Severity
    scopes: tuple[Scope, ...]
    meaning: str
    advice: str


_EVSE: Final[tuple[Scope, ...]] = ("evse",)
_STATION: Final[tuple[Scope, ...]] = ("station",)
_NODE: Final[tuple[Scope, ...]] = ("node",)
_LINKED: Final[tuple[Scope, ...]] = ("node", "station")
_SITE: Final[tuple[Scope, ...]] = ("site",)
_EITHER: Final[tuple[Scope, ...]] = ("evse", "station")
_ANY: Final[tuple[Scope, ...]] = ("evse", "station", "node", "site")

_CATALOGUE: Final = (
    # connector
    Fault("contact_resistance", "Contact resistance grows", "connector", "warning", _EVSE,
          "The plug heats more per square of the current than it used to, or than its siblings do.",
          "Inspect plug and socket contacts for wear, dirt and discolouration; clean or replace "
          "the contacts or the cable."),
    Fault("connector_over_temperature", "Plug too hot", "connector", "warning", _EVSE,
          "The plug reached the temperature at which charging must be reduced.",
          "Let it cool, check contacts and terminal torque, compare both plug sensors; take the "
          "EVSE out of service if critical."),
    Fault("cabinet_over_temperature", "Cabinet too hot", "connector", "warning", _STATION,
          "The inside of the station is hotter than its electronics allow.",
          "Clean filters, check fans and coolant, shade and ventilation; see whether power was reduced."),
    Fault("silent_derate", "Charges slower than offered while hot", "connector", "warning", _EVSE,
          "The current stays below the offer while the plug is hot and the car is not limiting.",
          "Check the plug as for contact resistance and the temperature sensor that throttles."),
    Fault("proximity_out_of_range", "Proximity voltage out of range", "connector", "warning", _EVSE,
          "The proximity circuit of the plug is outside its band while charging.",
          "Check seating, latch switch and the proximity resistor in the plug; replace the plug if "
          "it drifts."),
    Fault("broken_latch", "Latch broken", "connector", "warning", _EVSE,
          "Plug-ins happen without the step that pressing the latch button makes.",
          "Inspect latch and button; replace the plug."),
    Fault("lock_failure", "Plug lock fails", "connector", "warning", _EVSE,
          "The station could not lock or release the plug.",
          "Check the lock motor, its feedback switch and the socket for dirt or ice; test unlock "
          "by command."),
    Fault("contactor_welded", "Contactor welded", "connector", "critical", _EVSE,
          "The output is live although no transaction runs.",
          "Take out of service and isolate the supply at once; replace the contactor and check its drive."),
    Fault("contactor_stuck_open", "Contactor does not close", "connector", "warning", _EVSE,
          "The car asks for energy and nothing flows although it is offered.",
          "Check the contactor, its drive and feedback, fuses and the residual-current device."),
    Fault("phantom_plug_cycles", "Plugs in and out by itself", "connector", "warning", _EVSE,
          "The EVSE reports a car coming and going within seconds and without energy.",
          "Check pilot and proximity wiring for loose contacts and moisture."),
    Fault("start_failures", "Charging fails to start", "connector", "warning", _EVSE,
          "Starts fail in a row or twice as often as elsewhere on the site.",
          "Read the reasons of the failed starts: authorisation, cable check, precharge or "
          "communication; test with a known car."),
    # cable
    Fault("cable_cut", "Cable cut", "cable", "critical", _EVSE,
          "All signals of the cable were lost at once while it was in use.",
          "Go and look: the cable may be stolen or torn off; isolate the supply, secure the site, "
          "file a report."),
    Fault("isolation_low", "Isolation resistance low", "cable", "critical", _EVSE,
          "The insulation between the DC output and earth is below what its voltage needs, or will "
          "be soon.",
          "Take out of service; look for moisture and damage in cable and plug, measure the insulation."),
    Fault("capacitance_high", "Capacitance to earth high", "cable", "warning", _EVSE,
          "The isolation monitor sees too much capacitance between output and earth.",
          "See whether one car causes it; else check filters, cable and the isolation monitor."),
    Fault("residual_current_trip", "Residual current trip", "cable", "critical", _EVSE,
          "A fault current to earth reached the level at which protection must act.",
          "Do not reset blindly: check cable, plug and socket for moisture and damage, test the "
          "residual-current device."),
    Fault("residual_current_rising", "Residual current rises", "cable", "warning", _EVSE,
          "The fault current to earth is half-way to the trip level or on its way there.",
          "Plan an inspection of cable and plug for moisture and worn insulation before it trips."),
    Fault("pilot_out_of_band", "Pilot voltage out of band", "cable", "warning", _EVSE,
          "The control pilot is outside its band while the car charges.",
          "Check the pilot conductor, its terminals and the plug; compare with another car."),
    Fault("pilot_jitter", "Pilot voltage jitters", "cable", "warning", _EVSE,
          "The control pilot wavers more than it used to.",
          "Look for a loose pilot terminal, a damaged conductor or interference from the power stage."),
    Fault("diode_fault", "Pilot diode missing", "cable", "warning", _EVSE,
          "The negative half wave of the pilot is missing: there is no diode at the other end.",
          "See whether one car causes it; else look for a short or moisture between pilot and earth."),
    Fault("conductor_aging", "Conductor ages", "cable", "warning", _EVSE,
          "The resistance of the cable loop has grown at like temperature.",
          "Check crimps and terminals of the DC cable; plan its replacement."),
    Fault("phase_open", "Phase lost", "cable", "warning", _EVSE,
          "A phase that carried current in this transaction carries none.",
          "Check fuses, terminals and the contactor of that phase; single-phase cars do not cause this."),
    # supply
    Fault("under_voltage", "Supply voltage too low", "supply", "warning", _EVSE,
          "A phase of the supply is below its lower limit.",
          "Compare with neighbours: all low means grid or feeder (tell the operator), one low "
          "means terminals, fuse or cable."),
    Fault("over_voltage", "Supply voltage too high", "supply", "warning", _EVSE,
          "A phase of the supply is above its upper limit.",
          "Compare with neighbours and phases: one high phase may be a lost neutral (isolate), all "
          "high is the grid."),
    Fault("voltage_dip", "Voltage dip", "supply", "warning", _EVSE,
          "The supply fell below 90 % for less than a minute.",
          "Once is the grid; repeated dips at one EVSE point to its terminals, at all of a site to "
          "large loads starting."),
    Fault("frequency_deviation", "Grid frequency off", "supply", "warning", _SITE,
          "The grid frequency is outside its band.",
          "Nothing to repair on site in a public grid; behind a generator or in an island check "
          "its governor."),
    Fault("voltage_unbalance", "Voltage unbalance", "supply", "warning", _EVSE,
          "The three phase voltages differ more than a healthy supply allows.",
          "Check the neutral and how single-phase loads are spread; tell the grid operator if all "
          "of the site show it."),
    Fault("source_impedance", "Weak supply", "supply", "warning", _EVSE,
          "The voltage sags more per ampere than it used to.",
          "Check terminals, fuses and joints from the distribution board to the EVSE for heat and torque."),
    Fault("over_current", "Draws more than offered", "supply", "warning", _EVSE,
          "The car takes more current than the station offers it.",
          "See whether one car causes it; else check the pilot duty cycle and the current sensors."),
    Fault("aux_supply", "Auxiliary supply out of band", "supply", "warning", _STATION,
          "The station's own low-voltage supply is off by more than 10 %.",
          "Measure and replace the auxiliary power supply before the controller resets."),
    Fault("site_power_event", "Power event at the site", "supply", "critical", _SITE,
          "Most stations of the site lost voltage at the same moment.",
          "Check the main supply and its protection, call the grid operator; stations need no "
          "visit of their own."),
    # meter
    Fault("register_rollback", "Meter register went back", "meter", "warning", _EVSE,
          "The energy register fell, which a billing meter must never do.",
          "Keep its bills in review; check for a meter or controller reset and the register "
          "mapping; replace the meter."),
    Fault("register_stuck", "Meter register stands still", "meter", "warning", _EVSE,
          "Power flows and the energy register does not advance.",
          "Keep its bills in review; restart the meter interface, then replace the meter."),
    Fault("register_mismatch", "Register and power disagree", "meter", "warning", _EVSE,
          "The register's energy over a session is not the integral of the measured power.",
          "Check current-transformer ratio, phase mapping and pulse constant against a reference meter."),
    Fault("power_mismatch", "Power and U x I disagree", "meter", "warning", _EVSE,
          "Measured power is not what voltage, current and power factor give.",
          "Check phase mapping and polarity of the current sensors."),
    Fault("value_frozen", "Measured value frozen", "meter", "warning", _EVSE,
          "A sensor repeats one value while the load moves.",
          "Restart the sensor's bus; replace the sensor if it returns."),
    # communication
    Fault("offline", "Offline", "communication", "warning", _LINKED,
          "Nothing is heard from the station or gateway any more.",
          "Check its power and its modem, SIM and network; ask the gateway's site contact before "
          "driving out."),
    Fault("flapping", "Connection flaps", "communication", "warning", _LINKED,
          "The connection is lost and made again many times an hour.",
          "Check signal, antenna, SIM and keep-alive settings; look for a second client of the same name."),
    Fault("message_loss", "Messages lost", "communication", "warning", _NODE,
          "Messages that the node numbered never arrived.",
          "Check its buffer size and storage, the network's loss and the bridge; bills of the time "
          "may need review."),
    Fault("reboot_loop", "Reboots again and again", "communication", "warning", _NODE,
          "The device restarted several times within an hour.",
          "Read its boot reasons; check auxiliary supply, storage and the last firmware update."),
    Fault("clock_error", "Clock wrong", "communication", "warning", _NODE,
          "The device's clock is off; its times are corrected and both are kept.",
          "Check its time source (NTP reachability, clock battery)."),
    Fault("weak_signal", "Radio signal weak", "communication", "info", _LINKED,
          "The radio signal is poor, or much worse than it used to be.",
          "Check antenna, cable and position; consider another network."),
    Fault("cadence_shift", "Sends slower than declared", "communication", "info", _EVSE,
          "Readings come at longer intervals than declared and no loss explains it.",
          "Compare the device's measuring interval setting with what its birth declares; look for "
          "overload."),
    Fault("ev_communication", "Communication with the car fails", "communication", "warning", _EITHER,
          "Station and car lost their data connection.",
          "See whether one car model causes it; else check pilot, modem (PLC) and firmware."),
    Fault("sub_device", "Part of the station does not answer", "communication", "warning", _EITHER,
          "The station reports that its meter, reader or another part failed or is silent.",
          "Check cabling and bus address of the part named in the evidence; replace it if a "
          "restart does not help."),
    # general
    Fault("station_reported", "Reported by the station", "general", "warning", _EITHER,
          "The station reports a condition that only it can know, under its own code.",
          "Read the station's code and words in the evidence and its manual."),
    Fault("unusual", "Unusual", "general", "info", _ANY,
          "A general detector finds this unlike its own history, and no named code explains it.",
          "Look at the charts around the start; label it when its cause is known."),
)  # fmt: skip

#: Every code of the catalogue.
FAULTS: Final[dict[str, Fault]] = {fault.code: fault for fault in _CATALOGUE}

#: Child -> parents: while a parent is open on the same EVSE, or on the station, node or site around it, the
#: child is recorded and not raised.
PARENTS: Final[dict[str, tuple[str, ...]]] = {
    "under_voltage": ("site_power_event",),
    "voltage_dip": ("site_power_event",),
    "voltage_unbalance": ("site_power_event",),
    "offline": ("site_power_event", "offline", "reboot_loop"),
    "flapping": ("site_power_event", "reboot_loop"),
    "message_loss": ("offline", "reboot_loop"),
    "cadence_shift": ("offline", "clock_error"),
    "pilot_out_of_band": ("cable_cut",),
    "proximity_out_of_range": ("cable_cut",),
    "phase_open": ("cable_cut",),
    "connector_over_temperature": ("cable_cut",),
    "start_failures": ("contactor_stuck_open",),
}

#: Marks codes that are no finding of their own but a failed start, counted by `start_failures`.
FAILED_START: Final = ""

#: ChargeX MREC number -> our code.
MREC: Final[dict[int, str]] = {
    1: "lock_failure",
    2: "residual_current_trip",
    3: "cabinet_over_temperature",
    4: "over_current",
    5: "over_voltage",
    6: "under_voltage",
    7: "weak_signal",
    8: "station_reported",
    9: "station_reported",
    10: "station_reported",
    11: FAILED_START,
    12: FAILED_START,
    13: "station_reported",
    14: "pilot_out_of_band",
    15: "station_reported",
    16: "station_reported",
    17: "contactor_welded",
    18: "connector_over_temperature",
    19: "connector_over_temperature",
    20: "proximity_out_of_range",
    21: "capacitance_high",
    22: "isolation_low",
    23: "proximity_out_of_range",
    24: "contactor_welded",
    25: "broken_latch",
    26: "cable_cut",
}

#: OCPP 1.6 ChargePointErrorCode -> our code; all others are `station_reported`.
OCPP16: Final[dict[str, str]] = {
    "ConnectorLockFailure": "lock_failure",
    "EVCommunicationError": "ev_communication",
    "GroundFailure": "residual_current_trip",
    "HighTemperature": "cabinet_over_temperature",
    "OverCurrentFailure": "over_current",
    "OverVoltage": "over_voltage",
    "UnderVoltage": "under_voltage",
    "WeakSignal": "weak_signal",
    "PowerMeterFailure": "sub_device",
    "ReaderFailure": "sub_device",
    "PowerSwitchFailure": "contactor_welded",
}

#: EVerest ``interface/Error`` -> our code, first match of the interface and of the error ("" matches any),
#: after its MREC number if it has one; all others are `station_reported`.
EVEREST: Final[tuple[tuple[str, str, str], ...]] = (
    ("connector_lock", "", "lock_failure"),
    ("ac_rcd", "", "residual_current_trip"),
    ("", "DiodeFault", "diode_fault"),
    ("", "CommunicationFault", "sub_device"),
    ("", "DeviceFault", "sub_device"),
)

#: OCPP 2.x transaction triggers -> our code; others are no fault.
OCPP2_TRIGGERS: Final[dict[str, str]] = {"EVCommunicationLost": "ev_communication"}

_CX: Final = re.compile(r"CX0*(\d{1,3})\Z", re.IGNORECASE)
_EVEREST_MREC: Final = re.compile(r"MREC(\d{1,2})(?!\d)")


def code_of(taxonomy: str, code: str) -> str | None:
    """Return our code for a station's own, None where it is no finding by itself.

    Parameters
    ----------
    taxonomy : str
        ``mrec``, ``ocpp16``, ``everest``, ``ocpp2``, ``uec``, ``vendor``; of an unknown one all codes are
        `station_reported`.
    code : str
        As the station spells it: ``CX001``, ``GroundFailure``, ``evse_board_support/DiodeFault``,
        ``EVCommunicationLost``.
    """
    if taxonomy == "mrec":
        found = _CX.match(code)
        return MREC.get(int(found[1]), "station_reported") or None if found else "station_reported"
    if taxonomy == "ocpp16":
        return None if code == "NoError" else OCPP16.get(code, "station_reported")
    if taxonomy == "everest":
        return _everest(code)
    if taxonomy == "ocpp2" and code in OCPP2_TRIGGERS:
        return OCPP2_TRIGGERS[code]
    return "station_reported"


def failed_start(taxonomy: str, code: str) -> bool:
    """Return whether a station's own code means a failed start (CX011, CX012, or EVerest's names of them)."""
    if taxonomy == "mrec":
        found = _CX.match(code)
    elif taxonomy == "everest":
        found = _EVEREST_MREC.search(code.partition("/")[2])
    else:
        return False
    return found is not None and MREC.get(int(found[1])) == FAILED_START


def _everest(code: str) -> str | None:
    interface, _, error = code.partition("/")
    found = _EVEREST_MREC.search(error)
    if found and int(found[1]) in MREC:
        return MREC[int(found[1])] or None
    for wanted_interface, wanted_error, ours in EVEREST:
        if wanted_interface in {"", interface} and wanted_error in {"", error}:
            return ours
    return "station_reported"
