"""The dashboard of the pipeline itself: does all arrive, is it accounted for, does it leave."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from grafana_foundation_sdk.builders import dashboard as builders
from grafana_foundation_sdk.models.common import VisibilityMode

from ._page import Row, page, query_variable
from ._panels import FATE, Column, Panel, Steps, coloured, graph, limits, number, rows, stacked, states
from ._query import InfluxQuery, select, series, tag_values

_TABLE: Final = "ev_pipeline"
_EVERY: Final = "10s"
#: The account's point comes from the ledger, the others from what drains an outbox.
_ACCOUNT: Final = ("\"component\" = 'account'",)
_DRAINS: Final = (
    "\"component\" != 'account'",
    '"component" =~ /^$component$/',
    '"part" =~ /^$part$/',
)
_PART: Final = ("component", "part", "process")
#: Age of the newest accounted message, s: normal, busy, trouble.
_LAG_STEPS: Final[Steps] = ((None, "green"), (30, "orange"), (300, "red"))
_NONE_ALLOWED: Final[Steps] = ((None, "green"), (1, "red"))
_MESSAGE_FATES: Final = ("decoded", "duplicate", "dead", "held")
_ROW_FATES: Final = ("processed", "late", "duplicate", "invalid")


def _account(what: str) -> str:
    return select(what, _TABLE, where=_ACCOUNT)


def _unaccounted(total: str, fates: Sequence[str]) -> str:
    """Return how many of the total have no fate in the newest account; 0 means that it closes."""
    parts = " - ".join(f'"{field}"' for field in (total, *fates))
    return select('last("open") AS "unaccounted"', _account(f'{parts} AS "open"'))


def _rate(field: str, where: Sequence[str], by: Sequence[str], name: str) -> InfluxQuery:
    """Return the change a second of a counter, of each part on its own; a restart counts as 0 lost."""
    each = select(
        f'non_negative_derivative(max("{field}"), 1s) AS "rate"',
        _TABLE,
        where=where,
        by=_PART,
        every="$__interval",
    )
    return InfluxQuery(series('sum("rate") AS "rate"', each, by=by), name)


def _by_component(field: str, inner: str, outer: str) -> InfluxQuery:
    """Return a gauge joined over the outboxes of each component."""
    each = select(
        f'{inner}("{field}") AS "value"', _TABLE, where=_DRAINS, by=_PART, every="$__interval", fill="none"
    )
    return InfluxQuery(series(f'{outer}("value") AS "value"', each, by=("component",)), "$tag_component")


def _latest(field: str) -> str:
    """Return the newest value of each outbox and consumer."""
    return select(f'last("{field}") AS "value"', _TABLE, where=_DRAINS, by=_PART)


def _numbers() -> list[Panel]:
    return [
        number(
            1, "Messages unaccounted for",
            "Journaled messages less decoded, duplicate, dead and held ones. Anything but 0: keep the "
            "journal, run `chargestream journal verify`, and report it.",
            "none", [InfluxQuery(_unaccounted("messages", _MESSAGE_FATES), "messages")],
            decimals=0, steps=((None, "red"), (0, "green"), (1, "red")),
        ),
        number(
            2, "Readings unaccounted for",
            "Decoded readings less processed, late, duplicate and invalid ones. Anything but 0 is a fault "
            "of the program: keep the journal and report it.",
            "none", [InfluxQuery(_unaccounted("rows_in", [f"rows_{f}" for f in _ROW_FATES]), "readings")],
            decimals=0, steps=((None, "red"), (0, "green"), (1, "red")),
        ),
        number(
            3, "Newest message accounted for",
            "Its age: arrival to ledger. Growing: a worker or the ledger cannot follow, or nothing "
            "arrives at all (then see the broker).",
            "s", [InfluxQuery(_account('last("through_lag_s") AS "age"'), "age")],
            decimals=1, steps=_LAG_STEPS,
        ),
        number(
            4, "Waiting to be delivered",
            "Outbox records that InfluxDB, ledger or broker have not accepted yet. They wait on disk; "
            "nothing is lost. Growing: look at the retries below for who refuses.",
            "short", [InfluxQuery(select('sum("value") AS "records"', _latest("lag_records")), "records")],
            decimals=0, steps=((None, "green"), (10_000, "orange"), (1_000_000, "red")),
        ),
        number(
            5, "Dead letters kept",
            "Deliveries that the other side refused for good. `chargestream dead-letter` shows them with "
            "its words.",
            "none",
            [
                InfluxQuery(
                    select(
                        'sum("value") AS "letters"',
                        select('max("value") AS "value"', _latest("dead_letters"), by=("component",)),
                    ),
                    "letters",
                )
            ],
            decimals=0, steps=_NONE_ALLOWED,
        ),
        number(
            6, "Dead messages",
            "Messages that no dialect could read, since the ledger began. The live page shows them with "
            "the reason.",
            "none", [InfluxQuery(_account('last("dead") AS "dead"'), "dead")],
            decimals=0, steps=((None, "green"), (1, "orange")),
        ),
    ]  # fmt: skip


def _flow() -> list[Panel]:
    def fates(panel_id: int, title: str, what: str, unit: str, fields: dict[str, str]) -> Panel:
        queries = [_rate(field, _ACCOUNT, (), fate) for fate, field in fields.items()]
        return coloured(stacked(graph(panel_id, title, what, unit, queries, every=_EVERY, decimals=1)), FATE)

    return [
        fates(
            10,
            "Messages by fate",
            "Messages a second. duplicate: sent again, harmless. dead: unreadable, look into the dead "
            "messages. held: waits for an earlier sequence number.",
            "mps",
            {fate: fate for fate in _MESSAGE_FATES},
        ),
        fates(
            11,
            "Readings by fate",
            "Readings a second. late: kept for billing, not for live detection. invalid: a value that "
            "cannot be, kept as dead.",
            "rowsps",
            {fate: f"rows_{fate}" for fate in _ROW_FATES},
        ),
        states(
            12,
            "The account",
            "closes: every message and every reading is accounted for. open: something is missing or "
            "counted twice; keep the journal and report it.",
            [InfluxQuery(series('last("closes") AS "account"', _TABLE, where=_ACCOUNT), "account")],
            {"true": "green", "false": "red"},
            {"true": "closes", "false": "open"},
            _EVERY,
        ),
        limits(
            graph(
                13,
                "Age of the newest message accounted for",
                "Arrival to ledger. Dashed: 30 s and 300 s.",
                "s",
                [InfluxQuery(series('max("through_lag_s") AS "age"', _TABLE, where=_ACCOUNT), "age")],
                every=_EVERY,
                decimals=1,
            ),
            _LAG_STEPS,
        ),
    ]


def _delivery() -> list[Panel]:
    by = ("component",)
    return [
        graph(
            20,
            "Waiting records",
            "Outbox records not yet delivered, over all outboxes. A dead InfluxDB holds up only its own "
            "line.",
            "short",
            [_by_component("lag_records", "last", "sum")],
            every=_EVERY,
            decimals=0,
        ),
        graph(
            21,
            "Deliveries",
            "Outbox records accepted a second. At 0 while records wait: the other side is away or refuses.",
            "recps",
            [_rate("delivered", _DRAINS, by, "$tag_component")],
            every=_EVERY,
            decimals=1,
        ),
        graph(
            22,
            "Retries",
            "Deliveries put off a second; the log of the egress process has the other side's words.",
            "ops",
            [_rate("retries", _DRAINS, by, "$tag_component")],
            every=_EVERY,
            decimals=2,
        ),
        coloured(
            graph(
                23,
                "Dead letters",
                "Refused for good, kept with the other side's words. Growing: a field of another type in "
                "InfluxDB, or a message that the broker does not take.",
                "none",
                [_by_component("dead_letters", "max", "max")],
                every=_EVERY,
                decimals=0,
            ),
            {"influx": "purple", "ledger": "orange", "mqtt": "blue"},
        ).show_points(VisibilityMode.NEVER),
    ]


def _outboxes() -> Panel:
    return rows(
        24,
        "Outboxes",
        "The last state of each outbox and consumer. Counters run since the process started.",
        [
            InfluxQuery(
                select(
                    'last("lag_records") AS "lag", last("delivered") AS "delivered", '
                    'last("retries") AS "retries", last("dead_letters") AS "dead_letters"',
                    _TABLE,
                    where=_DRAINS,
                    by=_PART,
                ),
                table=True,
            )
        ],
        [
            Column("part", "Outbox"),
            Column("component", "Consumer"),
            Column("process", "Process"),
            Column("lag", "Waiting", unit="short", decimals=0),
            Column("delivered", "Delivered", unit="short", decimals=1),
            Column("retries", "Retries", decimals=0),
            Column("dead_letters", "Dead letters of this consumer", decimals=0),
        ],
    )


def pipeline() -> builders.Dashboard:
    """Return the dashboard of the pipeline's health."""
    messages, readings, account, age = _flow()
    waiting, deliveries, retries, letters = _delivery()
    dashboard = page(
        "pipeline",
        "Pipeline health",
        "Messages in, results out, and whether the account closes. When InfluxDB itself is away this page "
        "has a gap: the live page and /metrics go on.",
        [
            Row(4, [(panel, 4) for panel in _numbers()]),
            Row(9, [(messages, 12), (readings, 12)], "In: messages and readings"),
            Row(6, [(account, 12), (age, 12)]),
            Row(9, [(waiting, 12), (deliveries, 12)], "Out: outboxes"),
            Row(8, [(retries, 12), (letters, 12)]),
            Row(8, [(_outboxes(), 24)]),
        ],
        refresh="10s",
        since="now-1h",
    )
    for variable in (
        query_variable(
            "component",
            "Consumer",
            "Who takes from the outboxes: influx, ledger, mqtt.",
            tag_values(_TABLE, "component", _DRAINS[:1]),
            everything=True,
        ),
        query_variable(
            "part", "Outbox", "Outboxes shown.", tag_values(_TABLE, "part", _DRAINS[:1]), everything=True
        ),
    ):
        dashboard = dashboard.with_variable(variable)
    return dashboard
