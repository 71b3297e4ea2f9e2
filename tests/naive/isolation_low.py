"""Twin of `isolation_low`."""

from __future__ import annotations

from . import trend
from .plain import Expected, Reading, Story
from .trend import Rules, Seen

_RULES = Rules(
    "isolation_low", ("warning", "critical"), 0, 2, 60, 600, 24, 1008, 0.02, 0.0, 0.5, 0.5, 144
)  # fmt: skip


def emissions(story: Story) -> list[Expected]:
    """Return what the detector should emit with its defaults."""
    found = trend.emissions(story, _RULES, _judge)
    return trend.renamed(found, {"value": "isolation_kohm", "limit": "limit_kohm"})


def _judge(r: Reading) -> Seen:
    kohm = r.values.get("x.Isolation.R", float("nan"))
    volts = [v for n in ("x.Output.V", "Voltage") if (v := r.values.get(n)) is not None and v == v]
    limit = 0.1 * max(volts, default=float("nan"))
    if kohm != kohm or not volts or max(volts) < 60:
        return Seen(None, None, 1.0, kohm, limit)
    return Seen(kohm < limit, min(limit / max(kohm, 1e-3), 10.0), 1.0, kohm, limit)
