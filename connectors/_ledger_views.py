"""The ledger's views: what billing systems and the closing check read."""
# ruff: noqa: S608  # the texts are put together from constants of this room, never from input

from __future__ import annotations

from typing import Final

from ._ledger_tables import COUNTED

_WH_SQLITE = (
    "CASE WHEN {0} IS NULL THEN NULL ELSE printf('%s%d.%03d', CASE WHEN {0} < 0 THEN '-' ELSE '' END,"
    " abs({0}) / 1000, abs({0}) % 1000) END"
)
_WH_POSTGRESQL = "CAST(CAST({0} AS numeric) / 1000 AS numeric(24, 3))"
_UTC_SQLITE = "strftime('{1}', {0} / 1000, 'unixepoch')"
_UTC_POSTGRESQL = "to_char(to_timestamp({0} / 1000.0) AT TIME ZONE 'UTC', '{1}')"

# An account range closes when its messages and readings are all accounted for. `held` messages
# of the range before are among those that this one decoded.
RANGES: Final = """
    SELECT a.*, coalesce(lag("end") OVER w, 0) AS previous_end,
        coalesce(lag(held) OVER w, 0) AS previous_held,
        CASE WHEN lead(first) OVER w IS NULL THEN held ELSE 0 END AS held_now
    FROM account a WINDOW w AS (PARTITION BY shard ORDER BY first)
"""
RANGE_CLOSES: Final = (
    "first = previous_end AND messages + previous_held = decoded + duplicate + dead + held"
    " AND rows_in = rows_processed + rows_late + rows_duplicate + rows_invalid"
)


def views(dialect: str) -> dict[str, str]:
    """Return the SELECT behind each view, for ``sqlite`` or ``postgresql``."""
    sqlite = dialect == "sqlite"
    wh = (_WH_SQLITE if sqlite else _WH_POSTGRESQL).format
    utc = (_UTC_SQLITE if sqlite else _UTC_POSTGRESQL).format
    second = "%Y-%m-%dT%H:%M:%SZ" if sqlite else 'YYYY-MM-DD"T"HH24:MI:SS"Z"'
    day = utc("start_ms", "%Y-%m-%d" if sqlite else "YYYY-MM-DD")
    minute_ms = 60_000
    return {
        "v_energy_quarter_hour": f"""
            SELECT site, station, evse, start_ms, {utc("start_ms", second)} AS start_utc,
                {wh("energy_mwh")} AS energy_wh, quality, revision
            FROM intervals""",
        "v_energy_day": f"""
            SELECT site, station, evse, {day} AS day_utc, {wh("sum(energy_mwh)")} AS energy_wh,
                count(*) AS quarters,
                sum(CASE WHEN quality = 'measured' THEN 1 ELSE 0 END) AS quarters_measured,
                sum(CASE WHEN quality = 'interpolated' THEN 1 ELSE 0 END) AS quarters_interpolated,
                sum(CASE WHEN quality = 'estimated' THEN 1 ELSE 0 END) AS quarters_estimated,
                sum(CASE WHEN quality = 'missing' THEN 1 ELSE 0 END) AS quarters_missing
            FROM intervals GROUP BY site, station, evse, {day}""",
        "v_energy_month_site": f"""
            SELECT site, month, time_zone, CASE WHEN known > 0 THEN {wh("energy_mwh")} END AS energy_wh,
                quarters, missing AS quarters_missing, {wh("(4 * peak_mwh)")} AS peak_w, peak_start_ms
            FROM site_months WHERE quarters > 0""",
        "v_sessions_billable": f"""
            SELECT site, station, evse, connector, transaction_id, revision, start_ms, end_ms,
                {utc("start_ms", second)} AS start_utc, {utc("end_ms", second)} AS end_utc,
                {wh("energy_mwh")} AS energy_wh, {wh("begin_mwh")} AS begin_wh, {wh("end_mwh")} AS end_wh,
                flags, token_type, token_hash
            FROM sessions WHERE state = 'complete' AND energy_mwh IS NOT NULL""",
        "v_open_findings": f"""
            SELECT finding_id, code, severity, site, node, station, evse, connector, source, planned, score,
                {utc("raised_at", second)} AS raised_utc, {utc("start", second)} AS start_utc,
                ("last" - "start") / {minute_ms} AS minutes, evidence, taxonomy, advice, parent
            FROM findings WHERE state <> 'cleared' AND live""",
        "v_closing": f"""
            SELECT shard, min(first) AS first, max("end") AS "end", max(through_ms) AS through_ms,
                {", ".join(f"CAST(sum({name}) AS bigint) AS {name}" for name in COUNTED)},
                CAST(sum(held_now) AS bigint) AS held, count(*) AS ranges,
                sum(CASE WHEN {RANGE_CLOSES} THEN 0 ELSE 1 END) AS ranges_open,
                min(CASE WHEN {RANGE_CLOSES} THEN 1 ELSE 0 END) AS closes
            FROM ({RANGES}) r GROUP BY shard""",
    }


#: Ranges that do not close.
OPEN_RANGES: Final = (
    f"SELECT * FROM ({RANGES}) r WHERE NOT ({RANGE_CLOSES}) ORDER BY shard, first LIMIT :most"
)
