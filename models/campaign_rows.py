"""What campaigns tell the ledger, and what they ask of stations."""

from __future__ import annotations

from typing import Any, Final

import msgspec

#: States of stations in the order of their way.
STATES: Final = (
    "waiting", "due", "requested", "accepted", "downloading", "downloaded", "installing", "installed",
    "succeeded", "failed", "timed_out", "rejected", "unreachable", "skipped", "cancelled",
)  # fmt: skip


class CampaignRow(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that happened to a campaign. Natural key: (campaign, change). Times are epoch ms of
    journaled time.

    `event` is an `_campaign_states.Event`, or ``create``, ``wave`` (one opened), ``wave_done``, ``gate``
    (the telemetry gate decided), ``refused`` (a request that could not be met; `text` says why, and the state
    is as before). `plan` is set with ``create``, `verdict` with ``gate`` (`models.gate.Verdict`).
    """

    campaign: str
    change: int  # 1, 2, ... within the campaign
    event: str
    state: str
    by: str
    text: str
    wave: int  # -1: none is open yet
    counts: dict[str, int]  # state of stations -> how many
    at_ms: int
    plan: dict[str, Any] | None = None
    verdict: dict[str, Any] | None = None


class CampaignStationRow(msgspec.Struct, frozen=True, kw_only=True):
    """Where a station stands in a campaign. Natural key: (campaign, site, station); the greatest `change`
    wins.

    `attempt` counts requests, `request_id` is that of the last; `failed` how many attempts failed on the
    station's account.
    """

    campaign: str
    site: str
    station: str
    change: int
    state: str
    wave: int
    attempt: int
    failed: int
    request_id: int | None
    fw_before: str
    fw: str
    reason: str
    asked_ms: int | None
    ended_ms: int | None
    at_ms: int


class CampaignProgress(msgspec.Struct, frozen=True):
    """How far a campaign is at a minute of journaled time (epoch ms); for dashboards, not for the ledger.

    `gate_worst` is the gate's greatest log likelihood ratio over its upper bound, None without a gate.
    """

    campaign: str
    at_ms: int
    state: str
    wave: int
    counts: dict[str, int]
    gate_worst: float | None


class CampaignAsk(msgspec.Struct, frozen=True, kw_only=True):
    """A request to a station's site: the body of an operator message ``_op/command``, but for its form."""

    cause: str  # campaign/<campaign>/<attempt>: unique for the station
    site: str
    station: str
    command: str
    body: dict[str, Any]
    by: str
    at_ms: int
    expires_ms: int


class CampaignCancel(msgspec.Struct, frozen=True, kw_only=True):
    """A request to take a command back, should it not have been sent: ``_op/command_cancel``."""

    site: str
    station: str
    cmd_id: str
    by: str
