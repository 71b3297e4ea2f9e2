"""Points from what the flow puts out: readings, roll-ups, intervals and finding changes as line protocol.

Names, types and decimals come from `models.schema`. Everything is a function of the records alone,
so the same stream gives the same bytes however it is cut into batches.
"""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Mapping, Sequence
from decimal import Decimal

import numpy as np
from numpy.typing import NDArray

from ._words import Scratch
from .batch import ReadingBatch
from .campaign_rows import CampaignProgress
from .channels import CHANNELS, REGISTER_CHANNEL
from .devices import DeviceTable
from .lineprotocol import (
    COUNT,
    MILLI,
    FieldNames,
    Floats,
    Integers,
    Texts,
    encode_rows,
    escape_tag,
    field_names,
    number,
    quote,
    texts,
)
from .ocpi_objects import read_json, total_of
from .outputs import CdrRow, FindingAction, FindingChange, IntervalRow, RollupRows
from .schema import MEASUREMENTS, NO_TAG, ROLLUP_MEASUREMENT, FieldSpec
from .units import NS_PER_MS, wh_text

_IN_FLIGHT = ("requested", "accepted", "downloading", "downloaded", "installing", "installed")
_FAILED = ("failed", "timed_out", "rejected", "unreachable")

Value = float | int | str | bool | None


def encode_point(measurement: str, tags: dict[str, str], fields: dict[str, Value], time_ns: int) -> str:
    """Return one line without its line feed, by the schema; a field that is None is left out.

    For what is rare; readings and roll-ups go through the kernels.

    Raises
    ------
    KeyError
        If the measurement, a tag or a field is not in the schema.
    """
    spec = MEASUREMENTS[measurement]
    if tags.keys() - spec.tags.keys():
        raise KeyError(f"measurement {measurement} has no tags {sorted(tags.keys() - spec.tags.keys())}")
    head = measurement + "".join(f",{name}={escape_tag(tags.get(name) or NO_TAG)}" for name in spec.tags)
    body = ",".join(
        f"{name}={_value(spec.field(name), value)}" for name, value in fields.items() if value is not None
    )
    return f"{head} {body} {time_ns}"


def _value(spec: FieldSpec, value: float | int | str | bool) -> str:
    if spec.type == "string":
        return quote(str(value))
    if spec.type == "bool":
        return "true" if value else "false"
    if spec.type == "int":
        return f"{int(value)}i"
    return number(float(value), spec.decimals)


def _evse_tags(site: str, station: str, evse: int) -> str:
    return f",evse={evse},site={escape_tag(site) or NO_TAG},station={escape_tag(station) or NO_TAG}"


def _lines(lines: Sequence[str]) -> bytes:
    return "".join(f"{line}\n" for line in lines).encode()


def finding_lines(changes: Sequence[FindingChange]) -> bytes:
    """Return the points of finding changes, one a change.

    Changes of one millisecond would overwrite each other, so the nanoseconds below it tell them
    apart in their order: 100 times the change's place in the shard's order of effect (modulo
    10,000) plus its place among the changes of the same order. All changes of one order must
    therefore come in one call, as they do when a message is never split between batches.
    """
    lines = []
    previous = (-1, -1)
    place = 0
    for c in changes:
        place = place + 1 if (c.shard, c.order) == previous else 0
        previous = (c.shard, c.order)
        tags = {
            "code": c.code,
            "evse": "" if c.evse is None else str(c.evse),
            "node": c.node or "",
            "scope": c.scope,
            "site": c.site,
            "station": c.station or "",
        }
        fields: dict[str, Value] = {
            "state": c.state,
            "open": int(c.state != "cleared"),
            "severity": c.severity,
            "source": c.source,
            "live": c.live,
            "planned": c.planned,
            "score": c.score if abs(c.score) < 1e15 else None,
            "finding_id": c.finding_id,
            "connector": c.connector,
            "raised_at_ms": c.raised_at,
            "start_ms": c.start,
            "end_ms": c.end,
            "evidence": json.dumps(c.evidence, separators=(",", ":"), sort_keys=True),
            "taxonomy": c.taxonomy or None,
            "parent": c.parent or None,
        }
        time_ns = c.changed_at * NS_PER_MS + c.order % 10_000 * 100 + min(place, 99)
        lines.append(encode_point("ev_finding", tags, fields, time_ns))
    return _lines(lines)


def campaign_lines(told: Sequence[CampaignProgress]) -> bytes:
    """Return the points of campaigns, one a campaign and minute."""
    lines = []
    for p in told:
        counts = p.counts
        fields: dict[str, Value] = {
            "state": p.state,
            "wave": p.wave + 1,
            "succeeded": counts.get("succeeded", 0),
            "in_flight": sum(counts.get(name, 0) for name in _IN_FLIGHT),
            "failed": sum(counts.get(name, 0) for name in _FAILED),
            "due": counts.get("due", 0),
            "waiting": counts.get("waiting", 0),
            "gate_worst": p.gate_worst,
        }
        lines.append(encode_point("ev_campaign", {"campaign": p.campaign}, fields, p.at_ms * NS_PER_MS))
    return _lines(lines)


def bill_lines(bills: Sequence[CdrRow]) -> bytes:
    """Return ``ev_bill`` lines, one a bill or credit.

    Bills of one EVSE and millisecond are told apart by nanoseconds that follow from their id.
    """
    lines = []
    for bill in bills:
        body = read_json(bill.body)
        sign = -1 if bill.credit else 1
        excl, incl = total_of(body["total_cost"])
        evse = str(body.get("cdr_location", {}).get("evse_uid", "")).rpartition("-")[2]
        tags = {"evse": evse if evse.isdecimal() else "", "site": bill.site, "station": bill.station}
        fields: dict[str, Value] = {
            "total_excl": float(excl),
            "total_incl": float(incl),
            "energy_wh": sign * float(Decimal(body.get("total_energy") or 0) * 1000),
            "currency": body.get("currency"),
            "credit": int(bill.credit),
            "cdr_id": bill.id,
            "transaction_id": bill.transaction_id,
        }
        below = int.from_bytes(hashlib.blake2b(bill.id.encode(), digest_size=4).digest(), "big") % NS_PER_MS
        lines.append(encode_point("ev_bill", tags, fields, bill.last_updated_ms * NS_PER_MS + below))
    return _lines(lines)


def action_lines(actions: Sequence[FindingAction], raised: Mapping[str, tuple[str, str, int]]) -> bytes:
    """Return the points of what people did about findings in `raised`: id -> (code, site, raised at, ms)."""
    lines = []
    for a in actions:
        if a.finding_id not in raised:
            continue
        code, site, raised_ms = raised[a.finding_id]
        tags = {"action": a.action, "code": code, "site": site}
        fields: dict[str, Value] = {"after_s": (a.at - raised_ms) / 1000, "finding_id": a.finding_id}
        # two of one millisecond would overwrite each other
        digest = zlib.crc32(a.action_id.encode()) % 1_000_000
        lines.append(encode_point("ev_finding_action", tags, fields, a.at * NS_PER_MS + digest))
    return _lines(lines)


class PointEncoder:
    """Encodes the outputs of one shard, by the names in its device table.

    Series names are escaped once per EVSE and kept (about 50 bytes each); new EVSEs are taken up
    when they first appear. Building one compiles or loads the kernels.

    Parameters
    ----------
    devices : DeviceTable
        The shard's table; it may grow, its rows never change their names.
    """

    def __init__(self, devices: DeviceTable) -> None:
        self._devices = devices
        self._known = 0
        self._tags = texts([])
        self._scratch = Scratch()
        self._heads = {name: texts([name.encode()]) for name in MEASUREMENTS}
        self._channels = field_names([c.field for c in CHANNELS], [c.decimals for c in CHANNELS])
        self._register = field_names([CHANNELS[REGISTER_CHANNEL].field], [MILLI])
        self._rollup_integers = field_names(["readings", "energy_import_wh"], [COUNT, MILLI])
        self._rollup_names: dict[tuple[str, ...], FieldNames] = {}
        self.readings(ReadingBatch.empty())

    def nbytes(self) -> int:
        """Return the bytes held for series names and scratch."""
        return self._tags.data.nbytes + self._tags.at.nbytes + self._scratch.array.nbytes

    def readings(self, rows: ReadingBatch, mask: NDArray[np.bool_] | None = None) -> bytes:
        """Return ``ev_reading`` lines of the rows that `mask` (None = all) chooses."""
        present = np.flatnonzero(rows.slot_of >= 0)
        present = present[present != REGISTER_CHANNEL]
        names = FieldNames(*(column[present] for column in self._channels))
        floats = Floats(names, rows.slot_of[present].astype(np.int64), np.ascontiguousarray(rows.values))
        register = np.ascontiguousarray(rows.reg_mwh).reshape(1, -1)
        return encode_rows(
            self._heads["ev_reading"],
            self._series(),
            np.ascontiguousarray(rows.evse),
            np.ascontiguousarray(rows.time_ns),
            None if mask is None else np.ascontiguousarray(mask),
            floats,
            Integers(self._register, register),
            self._scratch,
        )

    def rollups(self, rows: RollupRows) -> bytes:
        """Return ``ev_1m`` or ``ev_15m`` lines, by the period of `rows`.

        Raises
        ------
        KeyError
            If the schema knows no such period or field.
        """
        measurement = ROLLUP_MEASUREMENT[rows.period_s]
        names = self._rollup_names.get(rows.fields)
        if names is None:
            spec = MEASUREMENTS[measurement]
            names = field_names(rows.fields, [spec.field(name).decimals for name in rows.fields])
            self._rollup_names[rows.fields] = names
        return encode_rows(
            self._heads[measurement],
            self._series(),
            np.ascontiguousarray(rows.evse),
            np.ascontiguousarray(rows.start_ns),
            None,
            Floats(names, np.arange(len(rows.fields)), np.ascontiguousarray(rows.values)),
            Integers(self._rollup_integers, np.stack([rows.count, rows.energy_mwh])),
            self._scratch,
        )

    def intervals(self, rows: Sequence[IntervalRow]) -> bytes:
        """Return ``ev_energy_15m`` lines; a missing quarter has quality and revision only."""
        lines = []
        for r in rows:
            tags = _evse_tags(r.site, r.station, r.evse)
            energy = "" if r.energy_mwh is None else f"energy_wh={wh_text(r.energy_mwh)},"
            state = f"quality={quote(r.quality)},revision={r.revision}i"
            lines.append(f"ev_energy_15m{tags} {energy}{state} {r.start_ms * NS_PER_MS}")
        return _lines(lines)

    def findings(self, changes: Sequence[FindingChange]) -> bytes:
        """Return ``ev_finding`` lines, one a change; see `finding_lines`."""
        return finding_lines(changes)

    def bills(self, rows: Sequence[CdrRow]) -> bytes:
        """Return ``ev_bill`` lines, one a bill or credit; see `bill_lines`."""
        return bill_lines(rows)

    def _series(self) -> Texts:
        n = self._devices.n_evses
        if n > self._known:
            fresh = texts([_evse_tags(*self._devices.names(row)).encode() for row in range(self._known, n)])
            used = int(self._tags.at[-1])
            self._tags = Texts(
                np.concatenate([self._tags.data[:used], fresh.data]),
                np.concatenate([self._tags.at, fresh.at[1:] + used]),
            )
            self._known = n
        return self._tags
