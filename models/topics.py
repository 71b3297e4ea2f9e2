"""Topics, routes and shards.

A route is an MQTT filter with a dialect; ``{site}`` and ``{node}`` may stand for one level each, and
``{rest}`` for all that remain: ``evt/v1/{site}/{node}/{rest}``. The first route that matches wins.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

from .errors import ConfigError

ROOT = "evt/v1"
OPERATOR_SITE = "_op"
CONTROL_SITE = "_ctl"
#: Operator requests that concern the whole fleet: only the control shard gets them.
FLEET_REQUESTS = ("campaign", "firmware")


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


def subscriptions(routes: Sequence[Route]) -> tuple[str, ...]:
    """Return the MQTT filters that serve `routes`, without those that another one covers.

    A broker may deliver a message once for each filter of ours that matches it (MQTT 5 §3.3.4).
    """
    # A route with a placeholder for the rest needs that level, which the bare filter does not say.
    needed = [(r.mqtt_filter, re.sub(r"/#\Z", "/+/#", r.mqtt_filter)) for r in routes]
    kept: list[str] = []
    for i, (wanted, exact) in enumerate(needed):
        others = [f for j, (f, _) in enumerate(needed) if j != i and (f != wanted or j < i)]
        if not any(_covers(other, exact) for other in others):
            kept.append(wanted)
    return tuple(kept)


def _covers(wide: str, narrow: str) -> bool:
    """Return whether every topic that `narrow` matches is matched by `wide`."""
    a, b = wide.split("/"), narrow.split("/")
    for i, level in enumerate(a):
        if level == "#":
            return True
        if i >= len(b) or b[i] == "#" or level not in {"+", b[i]}:
            return False
    return len(a) == len(b)


def shard_of(site: str, shards: int) -> int:
    """Return the shard of a site: CRC-32 of its UTF-8 name modulo `shards`; never changes."""
    return zlib.crc32(site.encode()) % shards
