"""The request that a campaign makes of a station."""

from __future__ import annotations

from collections.abc import Callable

from ._campaign_members import Members
from ._campaign_plan import Plan
from .campaign_rows import CampaignAsk
from .firmware import MAX_LOCATION, FirmwareError, update_firmware_body

#: (image_id, campaign, site, station, until in epoch ms) -> the address at which a station fetches an image.
Locate = Callable[[str, str, str, str, int], str]


def ask_of(plan: Plan, members: Members, row: int, locate: Locate | None, now_ms: int) -> CampaignAsk:
    """Begin the next attempt of a station that is due, and return what to ask of it.

    Raises
    ------
    FirmwareError
        If its address cannot be made or is too long for OCPP; the attempt has not begun then.
    """
    site, station = members.fleet.names[row]
    until_ms = now_ms + plan.attempt_timeout_s * 1000
    if plan.location or locate is None:
        location = plan.location.replace("{site}", site).replace("{station}", station)
    else:
        location = locate(plan.image.image_id, plan.id, site, station, until_ms)
    if len(location) > MAX_LOCATION:
        raise FirmwareError(
            "format", f"its address has {len(location)} characters, OCPP takes {MAX_LOCATION}"
        )
    request = members.ask(row, now_ms, until_ms)
    return CampaignAsk(
        cause=f"campaign/{plan.id}/{members.attempt[row]}",
        site=site,
        station=station,
        command="UpdateFirmware",
        body=update_firmware_body(
            plan.image,
            location,
            request,
            retrieve_ms=now_ms,
            retries=plan.download_retries,
            retry_interval_s=plan.download_retry_s,
        ),
        by=f"campaign:{plan.id}",
        at_ms=now_ms,
        expires_ms=now_ms + plan.answer_timeout_s * 1000,
    )
