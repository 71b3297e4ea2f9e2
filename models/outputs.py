"""What the flow puts out: the records behind the outbox streams.

Every outbox record is idempotent: applying it twice, or again after a crash with the stream cut
differently, leaves the same result. `STREAMS` names each stream, what a record holds, and who
drains it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import msgspec

from .batch import F64, I32, I64

#: stream -> (payload, consumers)
STREAMS: Final[dict[str, tuple[str, tuple[str, ...]]]] = {
    "points": ("line protocol, UTF-8", ("influx",)),
    "findings": ("msgpack list of FindingChange", ("ledger", "notify")),
    "finding_actions": ("msgpack list of FindingAction", ("ledger", "notify")),
    "intervals": ("msgpack list of IntervalRow", ("ledger",)),
    "devices": ("msgpack list of DeviceRow", ("ledger",)),
    "latest": ("msgpack list of LatestRow", ("ledger",)),
    "late": ("msgpack list of LateRow", ("ledger",)),
    "dead": ("msgpack list of models.records.Dead", ("ledger",)),
    "reactions": ("msgpack list of ReactionRow", ("ledger",)),
    "account": ("msgpack list of Account", ("ledger", "notify")),
    "rollups": ("msgpack list of RollupRow", ("ledger",)),
    "sessions": ("msgpack list of SessionRow", ("ledger",)),
    "cdrs": ("msgpack list of CdrRow", ("ledger", "ocpi")),
    "limits": ("msgpack list of models.load_rows.LimitRow", ("ledger",)),
    "loads": ("msgpack list of models.load_rows.LoadRow", ("ledger",)),
    "tariffs": ("msgpack list of TariffRow", ("ledger",)),
    "costs": ("msgpack list of models.billing_rows.CostRow", ("ledger",)),
    "payments": ("msgpack list of models.billing_rows.PaymentRow", ("ledger",)),
    "commands": ("msgpack list of CommandRow", ("ledger",)),
    "campaigns": ("msgpack list of models.campaign_rows.CampaignRow", ("ledger",)),
    "campaign_stations": ("msgpack list of models.campaign_rows.CampaignStationRow", ("ledger",)),
    "publish": ("msgpack list of Publish", ("mqtt",)),
    "notices": ("msgpack list of models.notices.Notice", ("notify",)),
    "wear": ("msgpack list of WearRow", ("ledger",)),
    "inspections": ("msgpack list of InspectionRow", ("ledger",)),
}


class FindingChange(msgspec.Struct, frozen=True, kw_only=True):
    """One state change of a finding (CONVENTIONS: one line of ``findings.jsonl``). Times are epoch ms.

    Natural key: (finding_id, change). `order` and `shard` sort changes and are not part of the
    published record.
    """

    finding_id: str
    code: str
    scope: str
    site: str
    node: str | None
    station: str | None
    evse: int | None
    connector: int | None
    severity: str
    source: str
    state: str  # raised, updated, cleared
    live: bool
    planned: bool
    raised_at: int
    start: int
    last: int
    end: int | None
    score: float
    evidence: dict[str, Any]
    taxonomy: str | None
    advice: str
    parent: str | None
    change: int  # 1, 2, ... within the finding
    changed_at: int  # journaled time of this change
    shard: int
    order: int

    def published(self) -> dict[str, Any]:
        """Return the record as others see it."""
        out: dict[str, Any] = msgspec.to_builtins(self)
        for name in ("change", "changed_at", "shard", "order"):
            del out[name]
        return out


class FindingAction(msgspec.Struct, frozen=True, kw_only=True):
    """What a person did about a finding. Natural key: (finding_id, action_id). Times are epoch ms.

    The latest ``ack``, ``assign`` and ``snooze`` or ``unsnooze`` of a finding count, by `at`.
    """

    finding_id: str
    action_id: str
    site: str | None
    action: str  # ack, assign, snooze, unsnooze, comment
    by: str
    to: str | None
    until: int | None
    text: str | None
    at: int  # arrival of the message


class IntervalRow(msgspec.Struct, frozen=True, kw_only=True):
    """Energy of one EVSE in one UTC quarter hour. Natural key: (site, station, evse, start_ms).

    A higher revision replaces a lower one. `energy_mwh` is None when the quality is ``missing``.
    """

    site: str
    station: str
    evse: int
    start_ms: int
    energy_mwh: int | None
    quality: str  # measured, interpolated, estimated, missing
    revision: int


class DeviceRow(msgspec.Struct, frozen=True, kw_only=True):
    """Inventory of one EVSE. Natural key: (site, station, evse); the greatest `order` wins."""

    site: str
    station: str
    evse: int
    node: str
    vendor: str
    model: str
    fw: str
    connector_type: str
    u_n_v: float
    phases: int
    p_max_w: float | None
    max_a: float | None
    dc: bool
    meter_serial: str
    order: int = 0  # the shard's order of effect of the birth or link message that said so


class LatestRow(msgspec.Struct, frozen=True, kw_only=True):
    """The newest reading of one EVSE, for the live page. Natural key: (site, station, evse); the
    greatest `time_ms` wins."""

    site: str
    station: str
    evse: int
    time_ms: int
    status: str
    state: int
    reg_mwh: int | None
    values: dict[str, float]  # field name -> value


class RollupRow(msgspec.Struct, frozen=True, kw_only=True):
    """One minute of one EVSE, for the power chart of the page, which thus needs no InfluxDB.

    Natural key: (site, station, evse, start_ms); more `readings` win. `energy_mwh` is the last register.
    The ledger keeps a day or two of them.
    """

    site: str
    station: str
    evse: int
    start_ms: int
    readings: int
    power_mean_w: float | None
    energy_mwh: int | None


class LateRow(msgspec.Struct, frozen=True, kw_only=True):
    """Readings of one EVSE that came after newer ones. Natural key: (shard, order, site, station, evse)."""

    shard: int
    order: int
    site: str
    station: str
    evse: int
    first_ms: int
    last_ms: int
    count: int


class SessionRow(msgspec.Struct, frozen=True, kw_only=True):
    """One transaction as it stands. Natural key: (site, station, transaction_id); a higher `revision`
    replaces a lower one. `body` is the line of ``sessions.jsonl``; the other fields are what is searched and
    summed. Unknown is None, never 0."""

    site: str
    station: str
    transaction_id: str
    revision: int
    evse: int | None
    connector: int | None
    start_ms: int | None
    end_ms: int | None
    energy_mwh: int | None
    begin_mwh: int | None
    end_mwh: int | None
    state: str  # open, incomplete, complete, review, credited
    flags: tuple[str, ...]
    token_type: str = ""
    token_hash: str = ""
    updated_ms: int = 0  # journaled time at which this revision took effect; 0: the session's own times count
    body: dict[str, Any] = {}


class CdrRow(msgspec.Struct, frozen=True, kw_only=True):
    """One bill. Natural key: `id`; a bill never changes, so the first record of an id stays.

    `body` is the OCPI object as JSON text, kept to the byte; (site, station, transaction_id, revision) is
    what it bills.
    """

    id: str
    revision: int
    site: str
    station: str
    transaction_id: str
    credit: bool
    credit_reference_id: str | None
    ocpi_version: str  # 2.2.1, 2.3.0
    last_updated_ms: int
    body: str


class TariffRow(msgspec.Struct, frozen=True, kw_only=True):
    """One OCPI tariff. Natural key: (country_code, party_id, id); the greatest `last_updated_ms` wins."""

    country_code: str
    party_id: str
    id: str
    ocpi_version: str
    last_updated_ms: int
    body: str


class ReactionRow(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a step of a reaction. Natural key: (shard, order, finding_id, rule, change)."""

    finding_id: str  # empty: it is about the breaker, and `step` -1
    rule: str
    change: int  # 1, 2, ... within the finding and rule
    step: int
    state: str  # sent, would send, held, refused, undone, would undo, tripped, reset
    reason: str
    code: str
    site: str
    station: str
    evse: int | None
    command: str
    body: dict[str, Any]
    cause: str  # of the command: what its cmdId is made of
    at_ms: int
    order: int
    shard: int = 0


class WearCounts(msgspec.Struct, frozen=True):
    """What wore of an EVSE since it was first heard of; unknown energy is None."""

    plug_cycles: int
    contactor_operations: int
    energy_mwh: int | None
    use_s: int
    warm_s: int
    hot_s: int
    body_hot_s: int


class WearRow(msgspec.Struct, frozen=True, kw_only=True):
    """Wear of one EVSE at the end of a quarter hour. Natural key: (site, station, evse); the greatest
    `time_ms` wins. `first_ms` is the journaled time at which the EVSE was first heard of."""

    site: str
    station: str
    evse: int
    time_ms: int
    first_ms: int
    counts: WearCounts


class InspectionRow(msgspec.Struct, frozen=True, kw_only=True):
    """Work that somebody did at one EVSE (0: none of the station is known), with the wear of that moment.
    Natural key: (inspection_id, evse); the first record stays. `at_ms` is when it was done."""

    inspection_id: str
    site: str
    station: str
    evse: int
    at_ms: int
    recorded_ms: int
    by: str
    what: str
    note: str
    counts: WearCounts


class Account(msgspec.Struct, frozen=True, kw_only=True):
    """What became of the messages and readings of one journal range [first, end) of a shard.

    Natural key: (shard, first). A record deletes all of its shard that start at or after `first`: after
    a crash the range is cut anew. `held` is how many messages wait for an earlier one at `end`.
    """

    shard: int
    first: int
    end: int
    through_ms: int  # newest arrival in the range
    messages: int  # without ticks
    decoded: int
    duplicate: int
    dead: int
    held: int
    rows_in: int
    rows_processed: int
    rows_late: int
    rows_duplicate: int
    rows_invalid: int


class CommandRow(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that happened to a command to a station. Natural key: (cmd_id, change). Times are epoch ms
    of journaled time.

    `body` is the OCPP 2.0.1 request without its secrets, `answer` what the station said beside its status.
    `reason` says in words why it ended as it did; `note` what this change alone was about, such as an answer
    that counts no more.
    """

    cmd_id: str
    change: int  # 1, 2, ... within the command
    event: str  # asked, or one of models.command_states.EVENTS
    state: str  # requested, sent, accepted, rejected, scheduled, expired, failed
    site: str
    station: str
    evse: int | None
    connector: int | None
    command: str  # OCPP 2.0.1 action
    body: dict[str, Any]
    cause: str
    by: str
    priority: int
    asked_ms: int
    expires_ms: int
    sent_ms: int | None  # first time it left
    ended_ms: int | None
    sends: int
    answers: int  # answers that came, the late and repeated ones too
    status: str  # what the station answered, "" for nothing yet
    answer: dict[str, Any]
    reason: str
    changed_ms: int
    shard: int
    order: int
    note: str = ""


class Publish(msgspec.Struct, frozen=True, kw_only=True):
    """A message to be published. `until_ms` (epoch ms): it is void from then on, and neither published nor
    delivered (message expiry of MQTT 5). `once`, if not empty: of all messages with this key at most one is
    ever handed to the broker, also when that was lost on the way."""

    topic: str
    payload: bytes
    qos: int = 1
    retain: bool = False
    until_ms: int | None = None
    once: str = ""


@dataclass(slots=True)
class RollupRows:
    """n closed roll-up windows.

    Attributes
    ----------
    period_s : int
        60 or 900; windows are aligned to UTC.
    evse : ndarray, shape (n,), int32
    start_ns : ndarray, shape (n,), int64
    count : ndarray, shape (n,), int64
        Readings in the window.
    energy_mwh : ndarray, shape (n,), int64
        Last register in the window, `units.NO_REGISTER` when none.
    fields : tuple of str
        Names of the rows of `values`, unit last (``power_mean_w``, ``voltage_l1_min_v``).
    values : ndarray, shape (len(fields), n), float64
        NaN where no reading carried the channel.
    """

    period_s: int
    evse: I32
    start_ns: I64
    count: I64
    energy_mwh: I64
    fields: tuple[str, ...]
    values: F64
