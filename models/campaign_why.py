"""Why a station does not run a campaign's version yet, in words for people; from what the ledger has."""

from __future__ import annotations

from typing import Any

import msgspec

from ._campaign_windows import Windows
from .campaign_outlook import FLYING, Outlook, View, wave_of
from .evidence_text import utc


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """What the ledger has of a station; None where nothing is known.

    Attributes
    ----------
    row : dict or None
        Its row of the campaign (`campaign_rows.CampaignStationRow`).
    vendor, model, fw : str
        Of its own birth.
    offline_ms : int or None
        Since when it is offline, by an open finding.
    charging_ms : int or None
        Since when a transaction runs.
    elsewhere : str
        Another campaign that is at work on it.
    waiting : list of (site, station)
        All stations of the campaign whose wave is not open.
    """

    site: str
    station: str
    row: dict[str, Any] | None = None
    vendor: str = ""
    model: str = ""
    fw: str = ""
    offline_ms: int | None = None
    charging_ms: int | None = None
    elsewhere: str = ""
    waiting: list[tuple[str, str]] = []


def why(view: View, ahead: Outlook, standing: Standing, now_ms: int) -> list[str]:
    """Return why a station does not run the version yet, the most important reason first; or that it does."""
    row = standing.row
    if row is None:
        return _not_in(view, standing)
    state = row["state"]
    if state == "succeeded":
        return [f"it runs {view.plan.image.version}, by its own birth, since {utc(row['at_ms'])}"]
    if state == "skipped":
        return [f"it is left out: {row['reason']}"]
    if state in FLYING:
        return _flying(view, row)
    if state == "waiting":
        return [*_held(view), *_waiting(view, ahead, standing)]
    if state == "due":
        return [*_held(view), *_due(view, standing, row, now_ms)]
    return _ended(view, row)


def _not_in(view: View, standing: Standing) -> list[str]:
    image = view.plan.image
    if not standing.vendor and not standing.model:
        return ["nothing is known of it: no birth with vendor and model has come"]
    if (standing.vendor, standing.model) != (image.vendor, image.model):
        return [
            f"it is a {standing.vendor} {standing.model}, the campaign is for {image.vendor} {image.model}"
        ]
    if view.state in ("finished", "aborted", "rolled_back"):
        return [f"it was not in the campaign, which is {view.state.replace('_', ' ')}"]
    return ["the target does not choose it: sites, stations, tags or versions"]


def _held(view: View) -> list[str]:
    """What keeps the whole campaign from asking anybody."""
    since = utc(view.since_ms)
    text = f": {view.text}" if view.text else ""
    words = {
        "waiting_for_approval": "a second person has to approve the campaign first",
        "approved": f"the campaign is approved since {since}, somebody has to start it",
        "paused": f"the campaign is paused since {since}{text}",
        "aborting": f"the campaign is being aborted since {since}{text}",
        "rolling_back": f"the campaign is being rolled back since {since}{text}",
    }.get(view.state)
    return [words] if words else []


def _waiting(view: View, ahead: Outlook, standing: Standing) -> list[str]:
    number, before = wave_of(view, standing.site, standing.station, standing.waiting)
    found = [f"it will be in wave {number + 1} ({before:,} stations come before it)"]
    opens = next((wave.opens_ms for wave in ahead.waves if wave.wave == number), None)
    opens = None if opens is None else Windows(view.plan).next_open(standing.site, opens)
    if opens is not None:
        found[0] += f", not before {utc(opens)}"
    if view.waves and view.state == "running":
        last = view.waves[-1]
        if last.done_ms is None:
            found.append(f"wave {last.wave + 1} is not done: {view.left:,} of its stations are on their way")
        elif view.plan.gating is not None:
            most = utc(last.done_ms + view.plan.gating.max_soak_s * 1000)
            found.append(f"the telemetry gate looks at wave {last.wave + 1}, until {most} at most")
    return found


def _due(view: View, standing: Standing, row: dict[str, Any], now_ms: int) -> list[str]:
    plan, found = view.plan, list[str]()
    if standing.offline_ms is not None:
        found.append(f"it is offline since {utc(standing.offline_ms)}")
    if standing.charging_ms is not None:
        found.append(f"a car charges since {utc(standing.charging_ms)}")
    if standing.elsewhere:
        found.append(f"campaign {standing.elsewhere} is at work on it")
    windows = Windows(plan)
    if not windows.open(standing.site, now_ms):
        opens = windows.next_open(standing.site, now_ms)
        found.append(
            "its window is shut"
            + ("" if opens is None else f" until {utc(opens)} ({windows.local(standing.site, opens)})")
        )
    if row["attempt"]:
        waits = plan.retry_wait_s * 2 ** max(0, row["failed"] - 1)
        again = row["at_ms"] + waits * 1000
        budget = f"{row['failed']} of {plan.retries + 1} attempts failed"
        when = f", again from {utc(again)}" if again > now_ms else ""
        found.append(f"attempt {row['attempt']} came to nothing ({row['reason']}); {budget}{when}")
    if view.flying >= plan.max_in_flight:
        found.append(f"{view.flying:,} updates are under way, as many as max_in_flight allows")
    if not found and view.state == "running":
        found.append(
            f"nothing is known to hold it: it is asked in its turn, {plan.per_minute:,} stations a minute"
        )
    if view.waves:
        last_ms = view.waves[-1].opened_ms + plan.wave_timeout_s * 1000
        found.append(f"if it cannot be asked until {utc(last_ms)}, it counts as unreachable")
    return found


def _flying(view: View, row: dict[str, Any]) -> list[str]:
    plan = view.plan
    asked = row["asked_ms"] or row["at_ms"]
    over = utc(asked + plan.attempt_timeout_s * 1000)
    words = row["state"].replace("_", " ")
    return [
        f"attempt {row['attempt']} is under way since {utc(asked)}: {words}"
        + (f" ({row['reason']})" if row["reason"] else ""),
        f"it fails at {over} unless its birth reports {plan.image.version}; a car that charges puts that off",
    ]


def _ended(view: View, row: dict[str, Any]) -> list[str]:
    state, plan = row["state"].replace("_", " "), view.plan
    found = [f"{state} {utc(row['at_ms'])}" + (f": {row['reason']}" if row["reason"] else "")]
    if row["attempt"]:
        budget = f"{row['failed']} of {plan.retries + 1} attempts failed"
        if row["state"] == "timed_out" and row["failed"] <= plan.retries:
            budget += ", and a station that goes offline in an update is not asked again"
        found.append(budget)
    if row["state"] != "cancelled":
        found.append(f"a birth with {plan.image.version}, however late, makes it good")
    return found
