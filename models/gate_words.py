"""A verdict of the telemetry gate in words for people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

#: Figure -> (what is counted, per what).
NAMES: Final = {
    "findings": ("findings", "station-hour"),
    "failed_starts": ("failed starts", "start"),
    "offline_s": ("seconds offline", "station-hour"),
    "energy_wh": ("Wh", "station-hour"),
}
VERDICTS: Final = {"worse": "worse", "same": "as before", "open": "cannot tell yet"}


def compared(metric: Mapping[str, Any]) -> str:
    """Return one figure (`models.gate.MetricVerdict` as plain data): both rates, how many times."""
    what, per = NAMES[metric["metric"]]
    now, before = metric["rate_updated"], metric["rate_waiting"]
    if now is None or before is None:
        return f"{what}: nothing to compare"
    times = f", {now / before:.2f} times" if before else ""
    usual = metric.get("usual")
    differed = times and usual is not None and round(usual, 2) != 1.0
    past = f" (before the campaign {usual:.2f} times)" if differed else ""
    return f"{what}: {now:.4g} per {per} of the updated, {before:.4g} of those that wait{times}{past}"


def decided(metric: Mapping[str, Any]) -> str:
    """Return what the test says of a figure, with the sum and its limits."""
    return (
        f"{VERDICTS[metric['verdict']]}: log likelihood ratio {metric['llr']:.2f} "
        f"(as before below {metric['lower']:.2f}, worse above {metric['upper']:.2f})"
    )
