"""Twin of `under_voltage`."""

from __future__ import annotations

from . import voltage_means
from .plain import Expected, Story

RULE = voltage_means.Rule("under_voltage", -1, 0.90, 0.85, 208.0, 150.0)


def emissions(story: Story) -> list[Expected]:
    """Return what the detector should emit with its defaults."""
    return voltage_means.emissions(story, RULE)
