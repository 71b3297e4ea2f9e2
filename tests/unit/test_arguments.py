"""Durations on the command line."""

from __future__ import annotations

import argparse

import pytest

from pipeline.arguments import duration_s


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("60s", 60), ("5m", 300), ("1.5h", 5400), ("2 d", 172_800), ("90", 90), ("50ms", 0.05)],
)
def test_durations(text: str, seconds: float) -> None:
    assert duration_s(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "0s", "-5s", "s", "5 weeks", "1e3s"])
def test_not_durations(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="is not a duration; expected 60s"):
        duration_s(text)
