"""What the order stage needs of the configuration."""

from __future__ import annotations

from models.ordering import OrderingConfig
from models.sequencing import SequencingConfig
from models.units import NS_PER_S

from .config import Config
from .order import OrderConfig


def order_plan(config: Config) -> OrderConfig:
    """Return the settings of the order stage."""
    order = config.order
    sequencing = SequencingConfig(
        hold_ns=round(order.hold_s * NS_PER_S),
        hold_max=order.hold_max_messages,
        live_max_age_ns=round(order.live_max_age_s * NS_PER_S),
        future_max_ns=round(order.future_max_s * NS_PER_S),
        clock_error_ns=round(order.clock_error_s * NS_PER_S),
    )
    return OrderConfig(tuple(config.topic_routes()), dict(config.dialects), sequencing, OrderingConfig())
