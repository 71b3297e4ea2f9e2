"""The sites under load management, as the control stage's policy takes them."""

from __future__ import annotations

from models.load_policy import LoadPolicy, SitePlan
from models.market_prices import PriceSeries
from models.policies import PolicyPlan
from models.topics import shard_of

from .config import Config


def load_plans(config: Config, prices: PriceSeries | None) -> dict[str, SitePlan]:
    """Return what is managed, by site; market prices hold for sites that use them."""
    zones = config.billing.zones()

    def price(time_ms: int) -> float | None:
        slot = prices.at(time_ms) if prices else None
        return None if slot is None else float(slot.price)

    return {
        section.site: SitePlan(
            section.settings(zones.get(section.site, config.billing.time_zone)),
            price if prices and section.use_price_files else None,
        )
        for section in config.load.sites
    }


def load_policies(config: Config, prices: PriceSeries | None) -> tuple[PolicyPlan, ...]:
    """Return the policy of load management; none when no site is managed."""
    plans = load_plans(config, prices)
    shards = config.journal.shards

    def build(shard: int, state: object) -> LoadPolicy:
        here = {site: plan for site, plan in plans.items() if shard_of(site, shards) == shard}
        return LoadPolicy(here, state if isinstance(state, dict) else None)

    return (PolicyPlan("load", False, build),) if plans else ()
