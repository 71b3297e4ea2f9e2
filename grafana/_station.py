"""The station dashboard: everything measured at the EVSEs of a station, against its limits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from grafana_foundation_sdk.builders import dashboard as builders
from grafana_foundation_sdk.models.dashboard import DynamicConfigValue

from ._page import Row, findings_annotation, page, query_variable
from ._panels import BRIDGED_MS, Column, Panel, Steps, dashed, graph, limits, number, rows
from ._query import ABOUT_EVSES, AT_EVSES, AT_SITES, EVSE, InfluxQuery, per_evse, select, series, tag_values
from ._shared import (
    energy_bars,
    finding_changes,
    open_findings_panels,
    per_variable,
    quality_bars,
    rollup_variable,
    site_variable,
)

_RECENT: Final = "10m"
_BY: Final = ("station", "evse")
_NAME: Final = "$tag_station/$tag_evse"
#: How far back single readings are shown.
READINGS_SINCE: Final = "6h"

#: EN 50160 and the voltage rules: 230 V -10 % and +10 %.
VOLTAGE_LIMITS: Final[Steps] = ((None, "red"), (207, "green"), (253, "red"))
#: connector_over_temperature of AC plugs; DC plugs have 90 and 100.
TEMPERATURE_LIMITS: Final[Steps] = ((None, "green"), (65, "orange"), (80, "red"))
#: State C of the control pilot (IEC 61851-1: 6 V, tolerance of the pilot_out_of_band rule).
PILOT_LIMITS: Final[Steps] = ((None, "text"), (5.47, "green"), (6.53, "text"))
#: Residual direct current at which a charge must stop, mA (residual_current_trip), and half of it.
RESIDUAL_LIMITS: Final[Steps] = ((None, "green"), (3, "orange"), (6, "red"))
#: weak_signal: below -90 dBm.
SIGNAL_LIMITS: Final[Steps] = ((None, "red"), (-90, "green"))


def _channels(
    fields: Sequence[tuple[str, str]], statistic: str = "mean", *, names: bool = True
) -> list[InfluxQuery]:
    """Return one query a channel, (field of the roll-up, what the legend calls it), by EVSE."""
    return [
        InfluxQuery(
            series(f'{statistic}("{field}") AS "{text}"', "ev_$rollup", where=AT_EVSES, by=_BY),
            f"{_NAME} {text}" if names else _NAME,
        )
        for field, text in fields
    ]


def _readings(statistic: str, field: str) -> list[InfluxQuery]:
    """Return the query of a channel of single readings, by EVSE."""
    return [
        InfluxQuery(
            series(f'{statistic}("{field}") AS "value"', "ev_reading", where=AT_EVSES, by=_BY, fill="none"),
            _NAME,
        )
    ]


def _numbers() -> list[Panel]:
    def last(field: str, function: str, name: str = "") -> list[InfluxQuery]:
        inner = per_evse(f'last("{field}") AS "value"', "ev_1m", AT_EVSES, every="")
        return [InfluxQuery(select(f'{function}("value") AS "value"', inner), name or function)]

    return [
        number(
            1, "Power now", f"Sum over the EVSEs chosen; values of the last {_RECENT}.", "watt",
            last("power_mean_w", "sum"), recent=_RECENT, decimals=1,
        ),
        number(
            2, "Energy in range", "Billable energy of quarter hours that start in the range shown.", "watth",
            [InfluxQuery(select('sum("energy_wh") AS "energy"', "ev_energy_15m", where=AT_EVSES), "energy")],
            decimals=1,
        ),
        number(
            3, "Hottest plug now",
            f"Highest temperature at a plug in the last {_RECENT}. AC plugs: from 65 °C plan a visit, "
            "from 80 °C stop using it. DC plugs: 90 and 100 °C.",
            "celsius", last("temperature_cable_max_c", "max"), recent=_RECENT, decimals=1,
            steps=TEMPERATURE_LIMITS,
        ),
        number(
            4, "Lowest voltage now",
            f"Lowest voltage of each phase in the last {_RECENT}. Below 207 V: see under_voltage; ask the "
            "grid operator or the site's electrician.",
            "volt", [q for n in (1, 2, 3) for q in last(f"voltage_l{n}_min_v", "min", f"L{n}")],
            recent=_RECENT, decimals=0, steps=VOLTAGE_LIMITS,
        ),
    ]  # fmt: skip


def _charging() -> list[Panel]:
    power = graph(
        10,
        "Power",
        "Mean power of each EVSE. It falls towards the end of a charge; if it falls early and the plug is "
        "warm, see silent_derate.",
        "watt",
        _channels([("power_mean_w", "power")], names=False),
        decimals=1,
    )
    current = graph(
        11,
        "Phase currents and offer",
        "Mean current of each phase, and the current offered (dashed). Above the offer: over_current. A "
        "phase at 0 that carried current before: phase_open; one- and two-phase cars are normal.",
        "amp",
        _channels(
            [
                ("current_l1_mean_a", "L1"),
                ("current_l2_mean_a", "L2"),
                ("current_l3_mean_a", "L3"),
                ("current_offered_last_a", "offered"),
            ]
        ),
        decimals=1,
    )
    return [power, dashed(current, "/ offered$/")]


def _supply() -> list[Panel]:
    phases = [(f"voltage_l{phase}_mean_v", f"L{phase}") for phase in (1, 2, 3)]
    direct = graph(
        13,
        "Output voltage and current",
        "DC stations: voltage and current to the car (dashed: current, right axis). AC stations that do "
        "not tell phases apart appear here too.",
        "volt",
        _channels([("voltage_mean_v", "V"), ("current_mean_a", "A")]),
        decimals=1,
    )
    return [
        limits(
            graph(
                12,
                "Phase voltages",
                "Mean voltage of each phase. Dashed: 207 and 253 V, 230 V less and plus 10 %. Sinking with "
                "the current: see source_impedance.",
                "volt",
                _channels(phases),
                decimals=1,
                calcs=("lastNotNull", "min", "max"),
            ),
            VOLTAGE_LIMITS,
        ),
        dashed(direct, "/ A$/").override_by_regexp(
            "/ A$/",
            [DynamicConfigValue("unit", "amp"), DynamicConfigValue("custom.axisPlacement", "right")],
        ),
    ]


def _temperatures() -> Panel:
    return limits(
        graph(
            14,
            "Temperatures",
            "Highest value in each step: plug (cable and outlet sensor), cabinet. Dashed: limits "
            "of AC plugs, 65 and 80 °C; DC plugs have 90 and 100, cabinets 70. Warmer than its "
            "siblings at the same current: see contact_resistance.",
            "celsius",
            _channels(
                [
                    ("temperature_cable_max_c", "cable"),
                    ("temperature_outlet_max_c", "outlet"),
                    ("temperature_body_max_c", "cabinet"),
                ],
                "max",
            ),
            decimals=1,
        ),
        TEMPERATURE_LIMITS,
    )


def _single() -> list[Panel]:
    """What roll-ups do not keep: read from single readings, over a short time only."""
    kept = "From single readings, which large fleets keep only for EVSEs with an open finding (influx.raw)."
    pilot = graph(
        15,
        "Control pilot",
        "Mean pilot voltage: 12 V free, 9 V plugged in, 6 V charging (dashed: its band, 5.47 to 6.53 V). A "
        f"charge outside the band: pilot_out_of_band. {kept}",
        "volt",
        _readings("mean", "pilot_v"),
        decimals=2,
        every="1s",
        calcs=("lastNotNull", "min", "max"),
    )
    residual = graph(
        16,
        "Residual current",
        "Highest direct residual current; a charge must stop at 6 mA (dashed), 3 mA for minutes calls for a "
        f"check of cable and car inlet. {kept}",
        "mamp",
        _readings("max", "residual_dc_ma"),
        decimals=2,
        every="1s",
    )
    signal = graph(
        17,
        "Radio signal",
        "Lowest signal strength of the station's modem. Below -90 dBm (dashed) expect gaps: antenna, SIM or "
        f"another network. {kept}",
        "dBm",
        _readings("min", "rssi_dbm"),
        decimals=0,
        every="1s",
        calcs=("lastNotNull", "min"),
    )
    power = graph(
        30,
        "Power, every reading",
        f"Every reading as the station sent it. {kept}",
        "watt",
        [InfluxQuery(select('"power_w" AS "power"', "ev_reading", where=AT_EVSES, by=_BY), _NAME)],
        decimals=1,
        every="1s",
    )
    return [
        panel.time_from(READINGS_SINCE).insert_nulls(BRIDGED_MS)
        for panel in (
            limits(pilot, PILOT_LIMITS),
            limits(residual, RESIDUAL_LIMITS),
            limits(signal, SIGNAL_LIMITS),
            power,
        )
    ]


def _meter() -> list[Panel]:
    return [
        energy_bars(20, AT_EVSES, _BY, _NAME),
        graph(
            21,
            "Import register",
            "The meter's register, which bills. It only grows: a fall is register_rollback, flat while "
            "power flows register_stuck.",
            "watth",
            _channels([("energy_import_wh", "register")], "last", names=False),
            decimals=3,
            calcs=("lastNotNull", "diff"),
        ),
        graph(
            22,
            "State of charge",
            "Of the car's battery, where the station knows it (DC, ISO 15118). Power falls above 80 %.",
            "percent",
            _channels([("soc_last_percent", "soc")], "last", names=False),
            decimals=0,
        )
        .min(0)
        .max(100),
        quality_bars(23, AT_EVSES),
    ]


def _values() -> Panel:
    return rows(
        31,
        "EVSEs, last values",
        "The newest values of each EVSE in the range shown.",
        [
            InfluxQuery(
                select(
                    'last("power_mean_w") AS "power", last("current_offered_last_a") AS "offered", '
                    'last("soc_last_percent") AS "soc", '
                    'last("temperature_cable_max_c") AS "temperature", '
                    'last("energy_import_wh") AS "register", last("readings") AS "readings"',
                    "ev_$rollup",
                    where=AT_EVSES,
                    by=EVSE,
                ),
                table=True,
            )
        ],
        [
            Column("site", "Site", width=110),
            Column("station", "Station", width=150),
            Column("evse", "EVSE", width=65),
            Column("power", "Power", unit="watt", decimals=1),
            Column("offered", "Offered", unit="amp", decimals=1),
            Column("soc", "SoC", unit="percent", decimals=0),
            Column("temperature", "Plug", unit="celsius", decimals=1),
            Column("register", "Register", unit="watth", decimals=3),
            Column("readings", "Readings", decimals=0),
        ],
    )


def station() -> builders.Dashboard:
    """Return the station dashboard."""
    numbers = [(panel, 4) for panel in _numbers()] + [
        (panel, width) for panel, width in zip(open_findings_panels(5, ABOUT_EVSES), (3, 3, 2), strict=True)
    ]
    (power, current), (voltage, direct) = _charging(), _supply()
    pilot, residual, signal, readings = _single()
    energy, register, soc, quality = _meter()
    dashboard = page(
        "station",
        "Station",
        "The EVSEs of the stations chosen: power, phases, temperatures and energy against their limits, "
        "with the station's findings marked.",
        [
            Row(4, numbers),
            Row(10, [(power, 12), (current, 12)], "Charging"),
            Row(10, [(voltage, 12), (_temperatures(), 12)]),
            Row(9, [(energy, 12), (register, 6), (soc, 6)], "Energy"),
            Row(10, [(finding_changes(24, ABOUT_EVSES), 24)], "Findings"),
            Row(8, [(direct, 12), (quality, 12)], "Direct current, quality"),
            Row(8, [(pilot, 8), (residual, 8), (signal, 8)], f"Single readings, last {READINGS_SINCE}"),
            Row(9, [(readings, 12), (_values(), 12)]),
        ],
        refresh="10s",
        since="now-6h",
    )
    stations = tag_values("ev_1m", "station", AT_SITES)
    evses = tag_values("ev_1m", "evse", (*AT_SITES, AT_EVSES[1]))
    for variable in (
        site_variable(),
        query_variable("station", "Station", "Stations shown; begin with one.", stations, everything=False),
        query_variable("evse", "EVSE", "EVSEs of these stations.", evses, everything=True),
        rollup_variable(),
        per_variable(),
    ):
        dashboard = dashboard.with_variable(variable)
    return dashboard.annotation(
        findings_annotation(
            select(
                '"code", "severity", "state", "evse", "evidence"',
                "ev_finding",
                where=(*ABOUT_EVSES, '"live" = true'),
            )
        )
    )
