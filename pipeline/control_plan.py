"""The control stage's settings: commands, dialects, and the policies that decide beside people."""

from __future__ import annotations

from models.campaign_policy import CampaignPolicy
from models.campaigns import Locate
from models.command_types import CommandConfig
from models.digests import Digester
from models.firmware_urls import Grant, url_of
from models.forwarding import Forwarder
from models.market_prices import PriceSeries
from models.policies import PolicyPlan
from models.reactions import Breaker, Reactions

from .config import Config
from .control import ControlConfig
from .load_plan import load_policies


def control_plan(config: Config, prices: PriceSeries | None = None) -> ControlConfig:
    """Return the settings of the control stage as `config` has them; `prices` are for load management."""
    options = config.dialect_options()
    names = dict.fromkeys(route.dialect for route in config.topic_routes() if "{node}" in route.pattern)
    return ControlConfig(
        shards=config.journal.shards,
        commands=CommandConfig(
            answer_ms=round(config.commands.answer_s * 1000),
            sends=config.commands.tries,
            queue=config.commands.queue_max,
        ),
        dialects={name: options.get(name, {}) for name in names},
        policies=policies(config, prices),
    )


def policies(config: Config, prices: PriceSeries | None = None) -> tuple[PolicyPlan, ...]:
    """Return the policies, one line each, in the order in which they hear of things."""
    locate, hosts = _addresses(config), tuple(config.firmware.foreign_hosts)
    plans = [
        PolicyPlan("forward", False, lambda _shard, state: Forwarder(state)),
        PolicyPlan("digest", False, lambda _shard, state: Digester(state)),
        PolicyPlan("campaigns", True, lambda _shard, state: CampaignPolicy(state, locate, hosts)),
    ]
    rules = config.reactions.rule_book()
    if rules is not None:
        plans.append(PolicyPlan("reactions", False, lambda _shard, state: Reactions(rules, state)))
        plans.append(PolicyPlan("reactions", True, lambda _shard, state: Breaker(rules.fleet_per_h, state)))
    plans += load_policies(config, prices)
    return tuple(plans)


def _addresses(config: Config) -> Locate | None:
    """Return what makes addresses of our own file server; None where none is set up."""
    firmware = config.firmware
    if not firmware.public_url or not firmware.url_secret:
        return None

    def locate(image_id: str, campaign: str, site: str, station: str, until_ms: int) -> str:
        grant = Grant(image_id, campaign, site, station, until_ms)
        return url_of(firmware.public_url, grant, firmware.url_secret)

    return locate
