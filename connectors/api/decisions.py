"""A person's decision about a session in review: what is asked, and how it is recorded."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Final, Literal

from fastapi import HTTPException
from pydantic import BaseModel, ConfigDict, Field

from connectors.billing_reader import BillingReader

MAX_MWH: Final = 10**15


class Decision(BaseModel):
    """What a person decides about a session in review."""

    model_config = ConfigDict(extra="forbid")

    decision: Literal["bill", "discard"]
    reason: Annotated[str, Field(min_length=1, max_length=2_000, pattern=r"^[^\x00]*$")]
    session_revision: Annotated[
        int, Field(ge=0, le=2**62, description="The revision that was looked at; another one is a conflict.")
    ]
    energy_mwh: Annotated[
        int | None, Field(ge=0, le=MAX_MWH, description="What to bill, when it is not the proposed energy.")
    ] = None


def decide(
    reader: BillingReader,
    record: Callable[[dict[str, Any]], dict[str, Any]],
    key: tuple[str, str, str],
    decision: Decision,
    by: str,
    now_ms: int,
) -> dict[str, Any]:
    """Record a decision on the session of a key and return its row; the next revision follows from it.

    Raises
    ------
    HTTPException
        404 for no session, 409 for one that is not in review or has another revision by now.
    """
    site, station, transaction_id = key
    found = reader.session(site, station, transaction_id)
    if found is None:
        raise HTTPException(404, "there is none")
    if found["state"] not in ("review", "incomplete"):
        raise HTTPException(409, f"the session is {found['state']}, not in review")
    if found["revision"] != decision.session_revision:
        raise HTTPException(409, f"the session has revision {found['revision']} by now; look again")
    return record(
        {
            "site": site,
            "station": station,
            "transaction_id": transaction_id,
            "session_revision": decision.session_revision,
            "decision": decision.decision,
            "energy_mwh": decision.energy_mwh,
            "reason": decision.reason,
            "decided_by": by,
            "decided_ms": now_ms,
        }
    )
