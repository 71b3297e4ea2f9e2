"""Twin of `under_voltage`."""

from __future__ import annotations

from .plain import Expected, Story
from .voltage_means import emissions as _emissions


def emissions(story: Story) -> list[Expected]:
    """Return what the detector should emit with its defaults."""
    return _emissions(story, "under_voltage", -1, 0.90, 0.85, 208.0, 150.0)
