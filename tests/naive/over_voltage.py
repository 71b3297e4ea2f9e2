"""Twin of `over_voltage`."""

from __future__ import annotations

from .plain import Expected, Story
from .voltage_means import emissions as _emissions


def emissions(story: Story) -> list[Expected]:
    """Return what the detector should emit with its defaults."""
    return _emissions(story, "over_voltage", 1, 1.10, 1.15, 240.0, 0.0)
