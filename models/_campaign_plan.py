"""What a campaign is to do: target, waves, thresholds, windows; the body of the operator message `create`."""

from __future__ import annotations

import math
from typing import Annotated, Any, Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec
from msgspec import Meta

from ._firmware_versions import check_conditions
from .errors import DecodeError
from .firmware import MAX_LOCATION, FirmwareError, Image
from .gate import GateSettings
from .units import MAX_STATION_TIME_MS

_Name = Annotated[str, Meta(min_length=1, max_length=200)]
_Id = Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}\Z")]
_Share = Annotated[float, Meta(ge=0.0, le=1.0)]
#: Waves that are foreseen one by one.
MOST_WAVES_SHOWN: Final = 500

_Seconds = Annotated[int, Meta(ge=1, le=90 * 86_400)]


class Target(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which stations of the image's vendor and model; what is empty chooses all.

    Attributes
    ----------
    sites, stations : tuple of str
        Patterns (``*``, ``?``, ``[…]``), at least one must fit: of the site; of ``site/station``.
    tags : tuple of str
        At least one of them.
    versions : tuple of str
        Conditions on the version it runs, such as ``>=1.2,<2.0``.
    """

    sites: tuple[_Name, ...] = ()
    stations: tuple[_Name, ...] = ()
    tags: tuple[_Name, ...] = ()
    versions: tuple[_Name, ...] = ()


class Wave(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One wave: `count` stations more, or as many as bring all waves so far to `percent` of all."""

    count: Annotated[int, Meta(ge=1, le=10_000_000)] | None = None
    percent: Annotated[float, Meta(gt=0.0, le=100.0)] | None = None


class Pace(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Waves of `first` stations, then `factor` times as many as the last, until none is left."""

    first: Annotated[int, Meta(ge=1, le=1_000_000)] = 10
    factor: Annotated[float, Meta(ge=1.0, le=100.0)] = 4.0


class Window(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename={"since": "from"}):
    """When stations may be asked, in the site's local time: from `since` until `to`, HH:MM.

    `days` are ISO weekdays (1 Monday to 7 Sunday) on which it begins; none: every day. `to` at or before
    `since` is on the next day, 24:00 is midnight.
    """

    since: Annotated[str, Meta(pattern=r"^([01]\d|2[0-3]):[0-5]\d\Z")]
    to: Annotated[str, Meta(pattern=r"^(([01]\d|2[0-3]):[0-5]\d|24:00)\Z")]
    days: tuple[Annotated[int, Meta(ge=1, le=7)], ...] = ()

    @property
    def minutes(self) -> tuple[int, int]:
        """Begin and end in minutes of the day it begins on; the end may lie beyond 1,440."""
        begin, end = (int(text[:2]) * 60 + int(text[3:]) for text in (self.since, self.to))
        return begin, end if end > begin else end + 1440


class Plan(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All that a campaign is to do.

    Attributes
    ----------
    id : str
        Letters, digits, ``.``, ``_`` and ``-``.
    by : str
        Who made it; somebody else must approve.
    image : Image
    location : str
        URL for the stations; ``{site}`` and ``{station}`` in it are filled in. Empty: our own file server's,
        signed for each station.
    previous, previous_location :
        The image to roll back to, if there is one.
    waves : tuple of Wave
        The first is the canary. What they leave over is one wave more.
    pace : Pace or None
        Instead of `waves`.
    success : float
        Share of a wave that must have the new version before the next (0.9).
    error : float
        Share of the finished attempts of a wave that may have failed (0.1): above, the campaign pauses.
    min_sample : int
        Least number of finished attempts before `error` counts (10).
    retries : int
        Attempts a station has after a failed one (2). An attempt that the file server put off, or that never
        reached the station, is none.
    retry_wait_s : int
        Before the first retry (900), doubled with each.
    attempt_timeout_s : int
        From the request to the birth with the new version (7,200); more is a failure.
    answer_timeout_s : int
        Expiry of the command (300): a station that was away must not get it when a car has come since.
    download_retries, download_retry_s : int
        How often and after how long the station itself tries a download again (OCPP retries, retryInterval).
    wave_timeout_s : int
        A station of the wave that could not be asked in this time is unreachable (7 days).
    windows : tuple of Window
    time_zone, site_time_zones :
        IANA names: of sites not named in `site_time_zones`, and of those.
    max_in_flight, per_minute : int
        Most updates under way (500), and most requests in a minute (200).
    gate : GateSettings or None
        The telemetry gate before each wave but the first; None: no gate.
    signed : bool
        Stations get certificate and signature and check the image themselves. False is for stations that
        cannot (OCPP 1.6 without the security extension, 2.0.1 L02): ours is the only check then.
    until_ms : int or None
        Stay open for newly born stations until then (epoch ms), even with nothing left to do.
    """

    id: _Id
    by: _Name
    image: Image
    location: Annotated[str, Meta(max_length=MAX_LOCATION)] = ""
    name: Annotated[str, Meta(max_length=200)] = ""
    previous: Image | None = None
    previous_location: Annotated[str, Meta(max_length=MAX_LOCATION)] = ""
    target: Target = Target()
    waves: tuple[Wave, ...] = ()
    pace: Pace | None = None
    success: _Share = 0.9
    error: _Share = 0.1
    min_sample: Annotated[int, Meta(ge=1, le=100_000)] = 10
    retries: Annotated[int, Meta(ge=0, le=20)] = 2
    retry_wait_s: _Seconds = 900
    attempt_timeout_s: _Seconds = 7200
    answer_timeout_s: _Seconds = 300
    download_retries: Annotated[int, Meta(ge=0, le=20)] = 3
    download_retry_s: _Seconds = 300
    wave_timeout_s: _Seconds = 7 * 86_400
    windows: tuple[Window, ...] = ()
    time_zone: str = "UTC"
    site_time_zones: dict[str, str] = {}
    max_in_flight: Annotated[int, Meta(ge=1, le=1_000_000)] = 500
    per_minute: Annotated[int, Meta(ge=1, le=1_000_000)] = 200
    gate: GateSettings | None = GateSettings()
    signed: bool = True
    until_ms: Annotated[int, Meta(ge=0, le=MAX_STATION_TIME_MS)] | None = None

    @property
    def gating(self) -> GateSettings | None:
        """The gate's settings, None if there is no gate."""
        return self.gate if self.gate is not None and self.gate.enabled else None

    def wave_size(self, wave: int, last: int, taken: int, waiting: int) -> int:
        """Return how many stations the wave with this number takes in.

        Parameters
        ----------
        last : int
            Size of the wave before.
        taken, waiting : int
            Stations in waves so far, and left.
        """
        if self.pace is not None:
            wanted = self.pace.first if wave == 0 else math.ceil(last * self.pace.factor)
        elif wave >= len(self.waves):
            wanted = waiting
        elif self.waves[wave].count is not None:
            wanted = self.waves[wave].count or 0
        else:
            wanted = math.ceil((taken + waiting) * (self.waves[wave].percent or 0.0) / 100.0) - taken
        return min(waiting, max(1, wanted))

    def wave_sizes(self, waiting: int, wave: int = -1, last: int = 0, taken: int = 0) -> list[int]:
        """Return the sizes of the waves after `wave`; the last of very many has what is left.

        Parameters
        ----------
        waiting : int
            Stations that are left.
        wave, last, taken : int
            Number and size of the wave that is open (-1: none), and stations in waves so far.
        """
        sizes: list[int] = []
        while waiting and len(sizes) < MOST_WAVES_SHOWN - 1:
            last = self.wave_size(wave + 1 + len(sizes), last, taken, waiting)
            sizes.append(last)
            taken, waiting = taken + last, waiting - last
        return [*sizes, waiting] if waiting else sizes


def back_plan(plan: Plan, name: str, by: str) -> Plan:
    """Return the plan of the roll-back of `plan`: its previous image, all at once, without a gate."""
    assert plan.previous is not None
    return msgspec.structs.replace(
        plan,
        id=name,
        by=by,
        name=f"roll-back of {plan.id}",
        image=plan.previous,
        location=plan.previous_location,
        previous=None,
        previous_location="",
        waves=(),
        pace=None,
        gate=None,
        until_ms=None,
    )


def read_plan(body: dict[str, Any]) -> Plan:
    """Return a plan from the body of an operator message.

    Raises
    ------
    DecodeError
        With the first thing that is wrong.
    """
    try:
        plan = msgspec.convert({k: v for k, v in body.items() if k != "action"}, Plan)
    except msgspec.ValidationError as error:
        raise DecodeError("schema", f"campaign: {error}") from error
    if plan.pace is not None and plan.waves:
        raise DecodeError("schema", "campaign: give `waves` or `pace`, not both")
    for number, wave in enumerate(plan.waves, 1):
        if (wave.count is None) == (wave.percent is None):
            raise DecodeError("schema", f"campaign: wave {number} needs `count` or `percent`")
    if plan.answer_timeout_s > plan.attempt_timeout_s:
        raise DecodeError("schema", "campaign: `answer_timeout_s` is longer than `attempt_timeout_s`")
    for zone in {plan.time_zone, *plan.site_time_zones.values()}:
        try:
            ZoneInfo(zone)
        except (ZoneInfoNotFoundError, ValueError, OSError) as error:
            raise DecodeError(
                "schema", f"campaign: time zone {zone!r}: expected an IANA name such as Europe/Berlin"
            ) from error
    if plan.previous is not None:
        if (plan.previous.vendor, plan.previous.model) != (plan.image.vendor, plan.image.model):
            raise DecodeError("schema", "campaign: `previous` is for another vendor or model than `image`")
        if bool(plan.previous_location) != bool(plan.location):
            raise DecodeError(
                "schema", "campaign: `previous` needs `previous_location` if `location` is given"
            )
    for image in (plan.image, plan.previous):
        if image is not None and plan.signed and not image.fits_ocpp:
            raise DecodeError(
                "schema", f"campaign: certificate or signature of {image.image_id} is longer than OCPP takes"
            )
    try:
        check_conditions(plan.target.versions)
    except FirmwareError as error:
        raise DecodeError("schema", f"campaign: target: {error}") from error
    return plan
