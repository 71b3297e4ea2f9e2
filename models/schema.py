"""The one list of what InfluxDB holds: measurements, tags, fields, types, units.

`connectors.schema` shows this list to the rest of the program, the tests compare every encoder and
dashboard with it. The rules behind it, which hold for InfluxDB 1.x, 2.x and 3:

- a field never changes its type, and no name is both tag and field of a measurement;
- the tags of a table are fixed by its first write in InfluxDB 3, so every point carries every tag,
  in alphabetical order; what has no value (the EVSE of a site's finding) is `NO_TAG`;
- units stand last in the name; a missing value is an absent field, never 0.
"""

from __future__ import annotations

from typing import Final, Literal, NamedTuple

from .channels import CHANNELS

FieldType = Literal["float", "int", "string", "bool"]

#: The value of a tag that does not apply: InfluxDB drops empty tags.
NO_TAG: Final = "-"


class FieldSpec(NamedTuple):
    """One field; `decimals` is how many a float keeps (0 for other types)."""

    name: str
    type: FieldType
    unit: str
    description: str
    decimals: int = 0


class Measurement(NamedTuple):
    """One measurement; `tags` maps tag names, in the order in which they are written, to their meaning."""

    name: str
    description: str
    tags: dict[str, str]
    fields: tuple[FieldSpec, ...]

    def field(self, name: str) -> FieldSpec:
        """Return the field `name`; KeyError if this measurement has none of that name."""
        for spec in self.fields:
            if spec.name == name:
                return spec
        raise KeyError(f"measurement {self.name} has no field {name!r}; see models/schema.py")


_EVSE_TAGS: Final = {"evse": "EVSE number within the station", "site": "site", "station": "station"}

#: Statistic of a roll-up window -> what it says, with the channel put in.
STATISTICS: Final[dict[str, str]] = {
    "mean": "mean of {}",
    "min": "smallest {}",
    "max": "largest {}",
    "last": "last {}",
}

#: Field of a channel -> statistics that roll-ups keep of it (`models.rollups` computes exactly these).
ROLLED: Final[dict[str, tuple[str, ...]]] = {
    "power_w": ("mean", "min", "max"),
    **dict.fromkeys(("voltage_v", "voltage_l1_v", "voltage_l2_v", "voltage_l3_v"), ("mean", "min", "max")),
    **dict.fromkeys(("current_a", "current_l1_a", "current_l2_a", "current_l3_a"), ("mean", "max")),
    "frequency_hz": ("mean",),
    **dict.fromkeys(("temperature_cable_c", "temperature_outlet_c", "temperature_body_c"), ("max",)),
    "current_offered_a": ("last",),
    "soc_percent": ("last",),
}


def split_unit(field: str) -> tuple[str, str]:
    """Return (quantity, unit suffix) of a channel's field name: "power_w" -> ("power", "_w").

    The suffix is empty for the names that are their own unit (``power_factor``, ``contactor_cycles``).
    """
    if field in {"power_factor", "contactor_cycles"}:
        return field, ""
    quantity, _, unit = field.rpartition("_")
    return quantity, f"_{unit}"


def _reading_fields() -> tuple[FieldSpec, ...]:
    return tuple(FieldSpec(c.field, "float", c.unit, c.name, c.decimals) for c in CHANNELS)


def _rollup_fields() -> tuple[FieldSpec, ...]:
    fields = [
        FieldSpec("energy_import_wh", "float", "Wh", "import register at the end of the window", 3),
        FieldSpec("readings", "int", "1", "readings in the window"),
    ]
    for channel in CHANNELS:
        quantity, unit = split_unit(channel.field)
        fields += [
            FieldSpec(
                f"{quantity}_{statistic}{unit}",
                "float",
                channel.unit,
                STATISTICS[statistic].format(channel.name),
                channel.decimals,
            )
            for statistic in ROLLED.get(channel.field, ())
        ]
    return tuple(fields)


_FINDING_FIELDS: Final = (
    FieldSpec("state", "string", "", "raised, updated or cleared"),
    FieldSpec("open", "int", "1", "1 while the finding is open, 0 once cleared"),
    FieldSpec("severity", "string", "", "info, warning or critical; may change while open"),
    FieldSpec("source", "string", "", "station, rule, statistical or learned"),
    FieldSpec("live", "bool", "", "false: found in a backlog, never notified"),
    FieldSpec("planned", "bool", "", "true: a planned absence"),
    FieldSpec("score", "float", "1", "how sure, 1 = certain", 6),
    FieldSpec("finding_id", "string", "", "the finding, as in the ledger"),
    FieldSpec("connector", "int", "1", "connector, when known"),
    FieldSpec("raised_at_ms", "int", "ms", "when it was raised, epoch"),
    FieldSpec("start_ms", "int", "ms", "when the condition began, epoch"),
    FieldSpec("end_ms", "int", "ms", "when it ended, epoch; absent while open"),
    FieldSpec("evidence", "string", "", "the figures that decided, as JSON"),
    FieldSpec("taxonomy", "string", "", "the station's own code, when it reported one"),
    FieldSpec("parent", "string", "", "code of the finding that explains it"),
)

_CAMPAIGN_FIELDS: Final = (
    FieldSpec("state", "string", "", "state of the campaign, as in the ledger"),
    FieldSpec("wave", "int", "1", "open wave, 1 is the first; 0 before it"),
    FieldSpec("succeeded", "int", "1", "stations whose birth reports the new version"),
    FieldSpec("in_flight", "int", "1", "stations asked that have not ended"),
    FieldSpec("failed", "int", "1", "stations failed, timed out, rejected or unreachable"),
    FieldSpec("due", "int", "1", "stations of open waves not asked yet, or waiting for a retry"),
    FieldSpec("waiting", "int", "1", "stations whose wave is not open"),
    FieldSpec("gate_worst", "float", "1", "telemetry gate: greatest log likelihood ratio over its bound", 4),
)

_LOAD_PHASES: Final = (
    ("limit", "limit of the connection"),
    ("current", "measured current, other load included"),
    ("other", "load that is not charging"),
    ("held", "what it may come to if control is lost"),
)

_LOAD_FIELDS: Final = (
    *(
        FieldSpec(f"{name}_l{phase}_a", "float", "A", f"{words} on L{phase}", 2)
        for name, words in _LOAD_PHASES
        for phase in (1, 2, 3)
    ),
    FieldSpec("ev_kw", "float", "kW", "power of charging", 3),
    FieldSpec("site_kw", "float", "kW", "power of the site", 3),
    FieldSpec("quarter_kwh", "float", "kWh", "energy of the running quarter hour so far", 3),
    FieldSpec("projected_kw", "float", "kW", "mean power that the quarter comes to if nothing changes", 3),
    FieldSpec("peak_kw", "float", "kW", "highest quarter so far", 3),
    FieldSpec("demand_limit_kw", "float", "kW", "limit of the quarter's mean power, if there is one", 3),
    FieldSpec("charging", "int", "1", "EVSEs whose vehicle draws current"),
    FieldSpec("waiting", "int", "1", "EVSEs whose vehicle is paused"),
    FieldSpec("lost", "int", "1", "EVSEs that count with what they may draw"),
    FieldSpec("commands", "int", "1", "limits asked for within the last minute"),
)

_PIPELINE_FIELDS: Final = (
    FieldSpec("lag_records", "int", "1", "outbox records not yet delivered"),
    FieldSpec("delivered", "int", "1", "outbox records delivered since the process started"),
    FieldSpec("retries", "int", "1", "deliveries put off since the process started"),
    FieldSpec("dead_letters", "int", "1", "records kept in the dead-letter"),
    FieldSpec("messages", "int", "1", "journaled messages accounted for"),
    FieldSpec("decoded", "int", "1", "of these, decoded"),
    FieldSpec("duplicate", "int", "1", "of these, duplicates"),
    FieldSpec("dead", "int", "1", "of these, unusable"),
    FieldSpec("held", "int", "1", "of these, waiting for an earlier one"),
    FieldSpec("rows_in", "int", "1", "readings decoded"),
    FieldSpec("rows_processed", "int", "1", "of these, processed"),
    FieldSpec("rows_late", "int", "1", "of these, late"),
    FieldSpec("rows_duplicate", "int", "1", "of these, duplicates"),
    FieldSpec("rows_invalid", "int", "1", "of these, invalid"),
    FieldSpec("closes", "bool", "", "true: nothing is missing in the account"),
    FieldSpec("through_lag_s", "float", "s", "age of the newest message accounted for", 3),
)

_ROLLUP = "Roll-up of one EVSE over {}, aligned to UTC; the time is the start of the window"

MEASUREMENTS: Final[dict[str, Measurement]] = {
    m.name: m
    for m in (
        Measurement(
            "ev_reading",
            "One timestamped set of channels of an EVSE, by the raw policy",
            _EVSE_TAGS,
            _reading_fields(),
        ),
        Measurement("ev_1m", _ROLLUP.format("one minute"), _EVSE_TAGS, _rollup_fields()),
        Measurement("ev_15m", _ROLLUP.format("15 minutes"), _EVSE_TAGS, _rollup_fields()),
        Measurement(
            "ev_energy_15m",
            "Billable energy of one EVSE in a UTC quarter hour; the time is its start; a copy of the ledger",
            _EVSE_TAGS,
            (
                FieldSpec("energy_wh", "float", "Wh", "energy; absent when the quality is missing", 3),
                FieldSpec("quality", "string", "", "measured, interpolated, estimated or missing"),
                FieldSpec("revision", "int", "1", "grows when late readings changed the quarter"),
            ),
        ),
        Measurement(
            "ev_bill",
            "Bills and credits by the time at which they were made; sums are net of credits",
            _EVSE_TAGS,
            (
                FieldSpec("total_excl", "float", "currency", "total without tax, negative on a credit", 4),
                FieldSpec("total_incl", "float", "currency", "total with tax, negative on a credit", 4),
                FieldSpec("energy_wh", "float", "Wh", "energy, negative on a credit", 3),
                FieldSpec("currency", "string", "", "ISO 4217"),
                FieldSpec("credit", "int", "1", "1 for a credit"),
                FieldSpec("cdr_id", "string", "", "the bill, as in the ledger"),
                FieldSpec("transaction_id", "string", "", "the transaction that it bills"),
            ),
        ),
        Measurement(
            "ev_finding",
            "State changes of findings; the time is when the change took effect",
            {
                "code": "finding code",
                "evse": "EVSE number, or - for a station, node or site",
                "node": "station or gateway that speaks MQTT, or -",
                "scope": "evse, station, node or site",
                "site": "site",
                "station": "station, or -",
            },
            _FINDING_FIELDS,
        ),
        Measurement(
            "ev_campaign",
            "How far a firmware campaign is, each minute in which something changed",
            {"campaign": "the campaign"},
            _CAMPAIGN_FIELDS,
        ),
        Measurement(
            "ev_finding_action",
            "What people did about open findings; the time is the arrival of the request",
            {
                "action": "ack, assign, snooze, unsnooze or comment",
                "code": "finding code",
                "site": "site",
            },
            (
                FieldSpec("after_s", "float", "s", "time since the finding was raised", 3),
                FieldSpec("finding_id", "string", "", "the finding, as in the ledger"),
            ),
        ),
        Measurement(
            "ev_load",
            "A site under load management, each minute; the time is its start",
            {"site": "site"},
            _LOAD_FIELDS,
        ),
        Measurement(
            "ev_pipeline",
            "Health of the pipeline itself, every few seconds",
            {
                "component": "consumer/stream of an outbox, or account",
                "part": "the outbox, or the shard of an account",
                "process": "process that measured",
            },
            _PIPELINE_FIELDS,
        ),
    )
}

#: Length of a roll-up window in seconds -> its measurement.
ROLLUP_MEASUREMENT: Final[dict[int, str]] = {60: "ev_1m", 900: "ev_15m"}
