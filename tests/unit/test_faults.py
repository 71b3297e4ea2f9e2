"""The fault catalogue: complete, consistent, and the station maps as agreed."""

from __future__ import annotations

from pathlib import Path

import pytest
from ocpp.v16.enums import ChargePointErrorCode  # ocpp ships no types

from models import plugins
from models.detecting import SCOPES, SEVERITIES
from models.faults import EVEREST, FAULTS, MREC, OCPP2_TRIGGERS, OCPP16, PARENTS, code_of

#: Every code there must be.
CODES = [
    "contact_resistance",
    "connector_over_temperature",
    "cabinet_over_temperature",
    "silent_derate",
    "proximity_out_of_range",
    "broken_latch",
    "lock_failure",
    "contactor_welded",
    "contactor_stuck_open",
    "phantom_plug_cycles",
    "start_failures",
    "cable_cut",
    "isolation_low",
    "capacitance_high",
    "residual_current_trip",
    "residual_current_rising",
    "pilot_out_of_band",
    "pilot_jitter",
    "diode_fault",
    "conductor_aging",
    "phase_open",
    "under_voltage",
    "over_voltage",
    "voltage_dip",
    "frequency_deviation",
    "voltage_unbalance",
    "source_impedance",
    "over_current",
    "aux_supply",
    "site_power_event",
    "register_rollback",
    "register_stuck",
    "register_mismatch",
    "power_mismatch",
    "value_frozen",
    "offline",
    "flapping",
    "message_loss",
    "reboot_loop",
    "clock_error",
    "weak_signal",
    "cadence_shift",
    "ev_communication",
    "sub_device",
    "station_reported",
    "unusual",
]


def test_catalogue_holds_every_code_once_and_no_other() -> None:
    assert sorted(FAULTS) == sorted(CODES)
    assert len(set(CODES)) == len(CODES)


@pytest.mark.parametrize("code", CODES)
def test_every_entry_is_complete(code: str) -> None:
    fault = FAULTS[code]
    assert fault.code == code
    assert fault.severity in SEVERITIES
    assert fault.scopes
    assert set(fault.scopes) <= set(SCOPES)
    assert fault.group in {"connector", "cable", "supply", "meter", "communication", "general"}
    assert fault.title
    assert not fault.title.endswith(".")
    for text in (fault.meaning, fault.advice):
        assert text.endswith(".")
        assert text[0].isupper()
    assert ". " not in fault.meaning


def test_parents_are_known_and_have_no_circle() -> None:
    for child, parents in PARENTS.items():
        assert {child, *parents} <= FAULTS.keys()

    def depth(code: str, seen: tuple[str, ...]) -> int:
        assert code not in seen, f"circle {seen}"
        # offline of a node is the parent of offline behind it: the same code in a wider scope
        return 1 + max((depth(p, (*seen, code)) for p in PARENTS.get(code, ()) if p != code), default=0)

    assert max(depth(code, ()) for code in FAULTS) <= 4


@pytest.mark.parametrize(
    ("parent", "children"),
    [
        ("site_power_event", {"under_voltage", "voltage_dip", "voltage_unbalance", "offline", "flapping"}),
        ("offline", {"offline", "message_loss", "cadence_shift"}),
        ("reboot_loop", {"flapping", "message_loss", "offline"}),
        (
            "cable_cut",
            {"pilot_out_of_band", "proximity_out_of_range", "phase_open", "connector_over_temperature"},
        ),
        ("clock_error", {"cadence_shift"}),
        ("contactor_stuck_open", {"start_failures"}),
    ],
)
def test_parents_are_those_agreed(parent: str, children: set[str]) -> None:
    assert {child for child, parents in PARENTS.items() if parent in parents} == children


def test_maps_name_known_codes() -> None:
    named = {*MREC.values(), *OCPP16.values(), *OCPP2_TRIGGERS.values(), *(ours for _, _, ours in EVEREST)}
    assert named - {""} <= FAULTS.keys()
    assert sorted(MREC) == list(range(1, 27))
    assert set(OCPP16) <= {str(code.value) for code in ChargePointErrorCode}


@pytest.mark.parametrize(
    ("taxonomy", "code", "ours"),
    [
        ("mrec", "CX001", "lock_failure"),
        ("mrec", "CX024", "contactor_welded"),
        ("mrec", "CX026", "cable_cut"),
        ("mrec", "CX009", "station_reported"),
        ("mrec", "CX011", None),
        ("mrec", "CX012", None),
        ("mrec", "CX027", "station_reported"),
        ("mrec", "nonsense", "station_reported"),
        ("ocpp16", "GroundFailure", "residual_current_trip"),
        ("ocpp16", "HighTemperature", "cabinet_over_temperature"),
        ("ocpp16", "PowerSwitchFailure", "contactor_welded"),
        ("ocpp16", "ReaderFailure", "sub_device"),
        ("ocpp16", "InternalError", "station_reported"),
        ("ocpp16", "NoError", None),
        ("everest", "evse_board_support/MREC14PilotFault", "pilot_out_of_band"),
        ("everest", "evse_manager/MREC11CableCheckFault", None),
        ("everest", "isolation_monitor/MREC22ResistanceFault", "isolation_low"),
        ("everest", "connector_lock/ConnectorLockFailedLock", "lock_failure"),
        ("everest", "ac_rcd/Selftest", "residual_current_trip"),
        ("everest", "evse_board_support/DiodeFault", "diode_fault"),
        ("everest", "powermeter/CommunicationFault", "sub_device"),
        ("everest", "isolation_monitor/DeviceFault", "sub_device"),
        ("everest", "evse_board_support/EnclosureOpen", "station_reported"),
        ("everest", "", "station_reported"),
        ("ocpp2", "EVCommunicationLost", "ev_communication"),
        ("uec", "GridPowerLoss", "station_reported"),
        ("vendor", "E42", "station_reported"),
        ("new-taxonomy", "x", "station_reported"),
    ],
)
def test_station_codes_become_ours(taxonomy: str, code: str, ours: str | None) -> None:
    assert code_of(taxonomy, code) == ours


def test_every_detector_has_a_code() -> None:
    package = "models.detectors"
    assert {plugins.load(package, name).SPEC.code for name in plugins.names(package)} <= FAULTS.keys()


def test_docs_show_every_code_with_its_meaning_and_every_mapped_word() -> None:
    text = (Path(__file__).parents[2] / "docs" / "faults.md").read_text(encoding="utf-8")
    for fault in FAULTS.values():
        line = next(line for line in text.splitlines() if line.startswith(f"| `{fault.code}` |"))
        assert fault.meaning in line
        assert fault.advice in line
        assert f" {fault.severity} |" in line
        assert all(f"`{parent}`" in line for parent in PARENTS.get(fault.code, ()))
    for number, ours in MREC.items():
        assert f"| CX{number:03d} | {f'`{ours}`' if ours else 'a failed start'}" in text
    for word, ours in OCPP16.items():
        assert f"| {word} | `{ours}` |" in text
