"""Twin of `capacitance_high`."""

from __future__ import annotations

from .cable import Sample, watched
from .plain import Expected, Reading, Story


def emissions(story: Story) -> list[Expected]:
    """Return what the detector should emit with its defaults."""
    return watched(story, "capacitance_high", "warning", _judge, 0, 2, 60)


def _judge(r: Reading) -> Sample | None:
    found = r.values.get("x.Isolation.C")
    if found is None or found != found:
        return None
    return found > 5.0, {"isolation_uf": found, "limit_uf": 5.0, "over_uf": found - 5.0}
