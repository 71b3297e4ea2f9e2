"""Twin of `residual_current_rising`."""

from __future__ import annotations

from . import trend
from .plain import Expected, Reading, Story
from .residual_current_trip import residual
from .trend import Rules, Seen

_RULES = Rules(
    "residual_current_rising", ("warning", "warning"), 600, 2, 600, 600, 24, 1008, 0.02, 0.0, 0.5, 0.5, 144
)  # fmt: skip


def emissions(story: Story) -> list[Expected]:
    """Return what the detector should emit with its defaults."""
    found = trend.emissions(story, _RULES, _judge)
    return trend.renamed(found, {"value": "residual_ma", "limit": "limit_ma"})


def _judge(r: Reading) -> Seen:
    sample = residual(r, 3.0, 15.0)
    if sample is None:
        return Seen(None, None, 1.0, float("nan"), None)
    bad, evidence = sample
    value, limit = evidence["residual_ma"], evidence["limit_ma"]
    return Seen(bad, min(value / limit, 10.0), 1.0, value, limit)
