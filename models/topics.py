"""Topics, routes and shards.

A route is an MQTT filter with a dialect; ``{site}`` and ``{node}`` may stand for one level each, and
``{rest}`` for all that remain: ``evt/v1/{site}/{node}/{rest}``. The first route that matches wins.
"""

from __future__ import annotations

import re
import zlib
from dataclasses import dataclass

from .errors import ConfigError

ROOT = "evt/v1"
OPERATOR_SITE = "_op"


@dataclass(frozen=True, slots=True)
class Route:
    """One way of reading topics.

    Attributes
    ----------
    pattern : str
        Topic levels, with ``{site}``, ``{node}``, ``{rest}``, ``+`` and ``#``.
    dialect : str
        Plug-in of `pipeline.dialects`.
    """

    pattern: str
    dialect: str

    @property
    def mqtt_filter(self) -> str:
        """The MQTT subscription that covers this route."""
        return re.sub(r"\{(site|node)\}", "+", self.pattern).replace("{rest}", "#")

    def regex(self) -> re.Pattern[str]:
        """Return the expression that reads a topic of this route.

        Raises
        ------
        ConfigError
            If the pattern uses a placeholder that is not known.
        """
        parts = []
        for level in self.pattern.split("/"):
            if level in {"{site}", "{node}"}:
                parts.append(f"(?P<{level[1:-1]}>[^/]+)")
            elif level in {"{rest}", "#"}:
                parts.append("(?P<rest>.*)" if level == "{rest}" else ".*")
            elif level == "+":
                parts.append("[^/]+")
            elif "{" in level:
                raise ConfigError(
                    f"route {self.pattern!r}: {level!r} is not {{site}}, {{node}}, {{rest}}, + or #"
                )
            else:
                parts.append(re.escape(level))
        return re.compile("/".join(parts) + r"\Z")


@dataclass(frozen=True, slots=True)
class Match:
    """What a route read from a topic."""

    dialect: str
    site: str
    node: str
    rest: str


class Router:
    """Reads topics by a list of routes; a topic without site makes each node its own site."""

    def __init__(self, routes: list[Route]) -> None:
        self.routes = routes
        self._compiled = [(route, route.regex()) for route in routes]

    def match(self, topic: str) -> Match | None:
        """Return what the first matching route reads from `topic`, or None."""
        for route, pattern in self._compiled:
            found = pattern.match(topic)
            if found:
                groups = found.groupdict()
                node = groups.get("node") or ""
                site = groups.get("site") or node
                return Match(route.dialect, site, node or site, groups.get("rest") or "")
        return None


def shard_of(site: str, shards: int) -> int:
    """Return the shard of a site: CRC-32 of its UTF-8 name modulo `shards`; never changes."""
    return zlib.crc32(site.encode()) % shards
