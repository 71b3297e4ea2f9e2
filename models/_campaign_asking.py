"""The request that a campaign makes of a station."""

from __future__ import annotations

from collections.abc import Callable
from fnmatch import fnmatchcase
from urllib.parse import urlsplit

from ._campaign_members import Members
from ._campaign_plan import Plan
from .campaign_rows import CampaignAsk, CampaignCancel
from .command_types import command_id
from .firmware import MAX_LOCATION, FirmwareError, update_firmware_body

#: (image_id, campaign, site, station, until in epoch ms) -> the address at which a station fetches an image.
Locate = Callable[[str, str, str, str, int], str]


def no_address(plan: Plan, hosts: tuple[str, ...], *, ours: bool) -> str:
    """Return in words why a plan's addresses are refused; empty when they are not.

    Parameters
    ----------
    hosts : tuple of str
        Patterns of the hosts that they may name.
    ours : bool
        There is a file server of our own, for a plan that names none.
    """
    if not plan.location and not ours:
        return "`location` is empty and no file server is configured"
    for name in ("location", "previous_location"):
        address = getattr(plan, name)
        try:
            host = urlsplit(address).hostname or ""
        except ValueError:
            host = ""
        # a host that depends on the station could become any
        known = host and not set(host) & set("{}") and any(fnmatchcase(host, wanted) for wanted in hosts)
        if address and not known:
            return (
                f"{name} {address!r:.80} is not on our own file server: leave it out and name an image of the"
                " repository, or add its host to firmware.foreign_hosts"
            )
    return ""


def take_back(members: Members, row: int, campaign: str) -> CampaignCancel:
    """Return the request that takes a command back which may not have left yet."""
    site, station = members.fleet.names[row]
    return CampaignCancel(
        site=site,
        station=station,
        cmd_id=command_id(site, station, cause_of(campaign, int(members.attempt[row]))),
        by=f"campaign:{campaign}",
    )


def cause_of(campaign: str, attempt: int) -> str:
    """Return what an attempt's command is known by at its station."""
    return f"campaign/{campaign}/{attempt}"


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
        cause=cause_of(plan.id, int(members.attempt[row])),
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
            signed=plan.signed,
        ),
        by=f"campaign:{plan.id}",
        at_ms=now_ms,
        expires_ms=now_ms + plan.answer_timeout_s * 1000,
    )
