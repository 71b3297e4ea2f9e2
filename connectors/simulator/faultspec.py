"""Faults as text: ``CODE@STATION[/EVSE][+DELAY][~DURATION][:SEVERITY]``."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, Self

import msgspec

from models.errors import ConfigError

from . import faults
from .fleet import Fleet
from .messages import Truth

_UNITS_S: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "": 1.0}
_TIME: Final = r"\d+(?:\.\d+)?(?:ms|s|m|h)?"
_SPEC: Final = re.compile(
    rf"(?P<code>\w+)@(?P<target>[^+~:\s]+)(?:\+(?P<delay>{_TIME}))?(?:~(?P<time>{_TIME}))?(?::(?P<severity>\w+))?"
)
_EXPECTED: Final = (
    "CODE@STATION[/EVSE][+DELAY][~DURATION][:SEVERITY], such as under_voltage@AX01-01/1+30s~10m:clear"
)
DEFAULT_DELAY_S: Final = 10.0
DEFAULT_TIME_S: Final = 1800.0


def _seconds(text: str) -> float:
    number = text.rstrip("msh")
    return float(number) * _UNITS_S[text[len(number) :]]


class _Request(msgspec.Struct, forbid_unknown_fields=True):
    code: str
    station: str
    evse: int | None = None
    for_s: float = DEFAULT_TIME_S
    severity: str = "clear"


@dataclass(frozen=True, slots=True)
class FaultSpec:
    """One fault to inject: `delay_s` after the start, for `time_s`."""

    code: str
    target: str
    delay_s: float = DEFAULT_DELAY_S
    time_s: float = DEFAULT_TIME_S
    severity: str = "clear"

    def __post_init__(self) -> None:
        faults.find(self.code)
        if self.severity not in faults.SEVERITIES:
            raise ConfigError(
                f"simulator: severity {self.severity!r}, expected one of {', '.join(faults.SEVERITIES)}"
            )
        if not 0 < self.time_s < 1e9:
            raise ConfigError(f"simulator: fault {self.code} for {self.time_s} s, expected more than 0")

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read the text form.

        Raises
        ------
        ConfigError
            If it does not have that form, or names no known fault or severity.
        """
        found = _SPEC.fullmatch(text.strip())
        if found is None:
            raise ConfigError(f"simulator: fault {text!r}, expected {_EXPECTED}")
        return cls(
            found["code"],
            found["target"],
            _seconds(found["delay"]) if found["delay"] else DEFAULT_DELAY_S,
            _seconds(found["time"]) if found["time"] else DEFAULT_TIME_S,
            found["severity"] or "clear",
        )

    @classmethod
    def from_json(cls, payload: bytes) -> Self:
        """Read ``{"code", "station", "evse"?, "for_s"?, "severity"?}``; it begins at once.

        Raises
        ------
        ConfigError
            If it is not such an object.
        """
        try:
            request = msgspec.json.decode(payload, type=_Request)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise ConfigError(
                f"simulator: injection {payload[:200]!r}: {error}; "
                "expected {code, station, evse?, for_s?, severity?}"
            ) from error
        target = request.station if request.evse is None else f"{request.station}/{request.evse}"
        return cls(request.code, target, 0.0, request.for_s, request.severity)

    def inject(self, fleet: Fleet) -> Truth:
        """Inject it into a fleet, counted from the fleet's next tick; return the truth record."""
        at_ms = fleet.now_ms + int(self.delay_s * 1000)
        return fleet.inject(self.code, self.target, at_ms, at_ms + int(self.time_s * 1000), self.severity)
