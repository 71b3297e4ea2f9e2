"""Routes: what they read from a topic, and which subscriptions serve them."""

from __future__ import annotations

import pytest

from models.errors import ConfigError
from models.topics import Match, Route, Router, shard_of, subscriptions

ROUTES = [
    Route("evt/v1/_op/{rest}", "native"),
    Route("evt/v1/{site}/{node}/{rest}", "native"),
    Route("cs/{node}/ocpp", "ocpp16"),
]


@pytest.mark.parametrize(
    ("topic", "match"),
    [
        ("evt/v1/S/N/up/meter", Match("native", "S", "N", "up/meter")),
        ("evt/v1/_op/campaign/x", Match("native", "", "", "campaign/x")),
        ("cs/CP1/ocpp", Match("ocpp16", "CP1", "CP1", "")),
        ("evt/v1/S", None),
        ("cs/CP1/ocpp/more", None),
    ],
)
def test_the_first_matching_route_reads_the_topic(topic: str, match: Match | None) -> None:
    assert Router(ROUTES).match(topic) == match


def test_unknown_placeholder() -> None:
    with pytest.raises(ConfigError, match=r"'\{station\}' is not \{site\}, \{node\}, \{rest\}, \+ or #"):
        Router([Route("a/{station}", "x")])


@pytest.mark.parametrize(
    ("patterns", "filters"),
    [
        # the operator route lies within the general one: one subscription, one copy of each message
        (["evt/v1/_op/{rest}", "evt/v1/{site}/{node}/{rest}"], ("evt/v1/+/+/#",)),
        (["a/{node}/x", "a/{node}/x"], ("a/+/x",)),
        (["a/{node}/x", "b/{node}/x"], ("a/+/x", "b/+/x")),
        (["a/#", "a/{node}/x", "a/b"], ("a/#",)),
        (["a/b", "a/{node}"], ("a/+",)),
        (["a/{node}", "a/b/c"], ("a/+", "a/b/c")),
        (["+/+/+", "a/{rest}"], ("+/+/+", "a/#")),
        (["a/+/c", "a/b/{rest}"], ("a/+/c", "a/b/#")),
    ],
)
def test_subscriptions_cover_the_routes_once(patterns: list[str], filters: tuple[str, ...]) -> None:
    assert subscriptions([Route(p, "native") for p in patterns]) == filters


def test_shards_never_change() -> None:
    assert [shard_of(site, 16) for site in ("ST01", "HU01", "LA01", "ü")] == [5, 12, 7, 5]
