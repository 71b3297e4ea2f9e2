"""Campaigns on the control shard: what is told to the book, and how it reaches stations and the ledger."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from .campaign_rows import CampaignAsk, CampaignCancel
from .campaigns import CampaignBook, Locate
from .command_request import CANCEL_TOPIC, CancelRequest, CommandRequest
from .command_request import TOPIC as COMMAND_TOPIC
from .command_types import CAMPAIGN
from .errors import DecodeError
from .outputs import Publish
from .policies import Desk, Policy
from .records import Operator, Record

#: What follows ``_op/`` in the topic of a request about campaigns.
KIND: Final = "campaign"
#: Where progress is reported: it becomes points, not records of a stream.
PROGRESS: Final = "campaign_progress"
#: The file server's word that it put a station off or gives an image to nobody any more:
#: ``_op/firmware`` {action: shed | withdrawn, …}.
_FIRMWARE: Final = "firmware"


class CampaignPolicy(Policy):
    """Feeds a `CampaignBook`; what that asks of stations goes out as operator messages: it is journaled."""

    def __init__(
        self,
        resume_state: dict[str, Any] | None = None,
        locate: Locate | None = None,
        hosts: tuple[str, ...] = ("*",),
    ) -> None:
        self.book = CampaignBook(resume_state, locate, hosts)

    def record(self, record: Record, desk: Desk) -> None:
        """Take in what people ask."""
        if not isinstance(record, Operator) or record.topic not in (KIND, _FIRMWARE):
            return
        self.book.advance(desk.now_ms)
        if record.topic == KIND:
            self.book.operator(record.body, desk.now_ms)
        elif (what := record.body.get("action")) in ("shed", "withdrawn"):
            self._seen(what, record.body | {"time_ms": desk.now_ms}, desk)
        self._flush(desk)

    def forwarded(self, kind: str, body: dict[str, Any], desk: Desk) -> None:
        """Take in what a site shard told."""
        self.book.advance(desk.now_ms)
        self._seen(kind, body, desk)
        self._flush(desk)

    def _seen(self, kind: str, body: dict[str, Any], desk: Desk) -> None:
        try:
            self.book.seen(kind, body, desk.now_ms)
        except DecodeError:
            return  # no shard of ours writes it; anybody may have published it

    def tick(self, desk: Desk) -> None:
        """Let time go on."""
        self.book.advance(desk.now_ms)
        self._flush(desk)

    def due_ms(self) -> int | None:
        """Return when the clock of campaigns strikes next."""
        return self.book.due_ms()

    def _flush(self, desk: Desk) -> None:
        out = self.book.drain()
        for row in out.campaigns:
            desk.report("campaigns", row)
        for station in out.stations:
            desk.report("campaign_stations", station)
        for progress in out.progress:
            desk.report(PROGRESS, progress)
        for ask in out.asks:
            desk.publish(request_of(ask))
        for cancel in out.cancels:
            desk.publish(cancel_of(cancel))

    def snapshot(self) -> dict[str, Any]:
        """Return the whole state as plain data."""
        return self.book.snapshot()


def request_of(ask: CampaignAsk) -> Publish:
    """Return the operator message that asks a station's own shard for a command."""
    request = CommandRequest(
        id=ask.cause,
        cause=ask.cause,
        site=ask.site,
        station=ask.station,
        command=ask.command,
        body=ask.body,
        by=ask.by,
        priority=CAMPAIGN,
        expires_s=(ask.expires_ms - ask.at_ms) / 1000,
        replaces="",
    )
    return Publish(topic=COMMAND_TOPIC, payload=msgspec.json.encode(request))


def cancel_of(cancel: CampaignCancel) -> Publish:
    """Return the operator message that asks a station's own shard to take a command back."""
    request = CancelRequest(
        id=f"cancel/{cancel.cmd_id}", site=cancel.site, cmd_id=cancel.cmd_id, by=cancel.by
    )
    return Publish(topic=CANCEL_TOPIC, payload=msgspec.json.encode(request))
