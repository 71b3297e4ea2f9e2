"""Twin of `over_voltage`."""

from __future__ import annotations

from . import voltage_means
from .plain import Expected, Story

RULE = voltage_means.Rule("over_voltage", 1, 1.10, 1.15, 240.0, 0.0)


def emissions(story: Story) -> list[Expected]:
    """Return what the detector should emit with its defaults."""
    return voltage_means.emissions(story, RULE)
