"""How a simulated station treats commands: well, or badly in one of many ways."""

from __future__ import annotations

import dataclasses
import random
from dataclasses import dataclass
from typing import Final

from models.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Manners:
    """Shares of misbehaviour, 0 to 1; of a whole fleet, or (0 or 1) of one station.

    Attributes
    ----------
    ignore : float
        It never answers a command, and does none.
    reject : float
        It rejects every command.
    twice : float
        It sends every answer twice.
    forgetful : float
        It forgets command ids: what comes again is done again, what has expired is done too.
    slow : float
        It answers after half a minute to two minutes instead of at once.
    ignore_limits : float
        It accepts charging profiles and does not keep to them.
    reboot_mid_install, brick, old_version, power_loss : float
        With a firmware update: it boots once more before it is done; it never comes back; it comes back with
        the version it had; it loses power while it downloads and begins again.
    """

    ignore: float = 0.0
    reject: float = 0.0
    twice: float = 0.0
    forgetful: float = 0.0
    slow: float = 0.0
    ignore_limits: float = 0.0
    reboot_mid_install: float = 0.0
    brick: float = 0.0
    old_version: float = 0.0
    power_loss: float = 0.0

    def __post_init__(self) -> None:
        for name, share in dataclasses.asdict(self).items():
            if not 0.0 <= share <= 1.0:
                raise ConfigError(f"manners: {name} is {share!r}, expected a share from 0 to 1")

    def of(self, rng: random.Random) -> Manners:
        """Return the manners of one station, drawn from these shares."""
        drawn = {name: float(rng.random() < share) for name, share in dataclasses.asdict(self).items()}
        return Manners(**drawn)


NAMES: Final = tuple(field.name for field in dataclasses.fields(Manners))


def parse(text: str) -> Manners:
    """Return manners from ``ignore=0.02,brick=0.01``; a name alone is a share of 1.

    Raises
    ------
    ConfigError
        If a name is unknown or a share is none.
    """
    shares = {}
    for part in filter(None, (piece.strip() for piece in text.split(","))):
        name, _, share = part.partition("=")
        if name not in NAMES:
            raise ConfigError(f"manners: no {name!r}; there are {', '.join(NAMES)}")
        try:
            shares[name] = float(share) if share else 1.0
        except ValueError as error:
            raise ConfigError(f"manners: {part!r}, expected {name}=SHARE such as {name}=0.02") from error
    return Manners(**shares)
