"""Twin of `residual_current_trip`."""

from __future__ import annotations

from .cable import Sample, watched
from .plain import Expected, Reading, Story


def emissions(story: Story) -> list[Expected]:
    """Return what the detector should emit with its defaults."""
    return watched(story, "residual_current_trip", "critical", _judge, 0, 1, 60)


def _judge(r: Reading) -> Sample | None:
    return residual(r, 6.0, 30.0)


def residual(r: Reading, dc_ma: float, ac_ma: float) -> Sample | None:
    """Return whether a residual current is at its limit, and the evidence of the one nearer to it."""
    found = []
    for name, limit, kind in (("x.Residual.DC", dc_ma, 1), ("x.Residual.AC", ac_ma, 2)):
        value = r.values.get(name)
        if value is not None and value == value:
            found.append((abs(value) / limit, -kind, abs(value), limit))
    if not found:
        return None
    _, kind, value, limit = max(found)
    bad = any(v >= most for _, _, v, most in found)
    return bad, {"residual_ma": value, "limit_ma": limit, "kind": -kind}
