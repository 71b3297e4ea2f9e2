"""Twin of `conductor_aging`."""

from __future__ import annotations

from . import trend
from .plain import Expected, Reading, Story
from .trend import Rules, Seen

_RULES = Rules(
    "conductor_aging", ("warning", "warning"), 0, 1, 60, 300, 12, 2016, 0.0, 0.1, 1.5, 0.0, 6
)  # fmt: skip


def emissions(story: Story) -> list[Expected]:
    """Return what the detector should emit with its defaults."""
    found = trend.emissions(story, _RULES, _judge)
    names = {
        "value": "loop_mohm",
        "limit": "limit_mohm",
        "level": "level_mohm",
        "baseline": "baseline_mohm",
    }
    return trend.renamed(found, names)


def _judge(r: Reading) -> Seen:
    nan = float("nan")
    station, car, amps = (r.values.get(n, nan) for n in ("Voltage", "Voltage/EV", "Current.Import"))
    plug_c = r.values.get("Temperature/Cable", nan)
    milliohm = nan
    if amps >= 20.0:
        milliohm = 1000.0 * (station - car) / amps
    if -40.0 < plug_c < 150.0:
        milliohm /= 1.0 + 0.00393 * (plug_c - 20.0)
    return Seen(None, None if milliohm != milliohm else milliohm, amps * amps, milliohm, None)
