"""Argument types that several commands share."""

from __future__ import annotations

import argparse
import re

_UNIT_S = {"": 1.0, "ms": 0.001, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0}


def duration_s(text: str) -> float:
    """Return a duration such as ``60s``, ``5m``, ``1.5h`` or ``2d`` in seconds; a bare number is seconds.

    Raises
    ------
    argparse.ArgumentTypeError
        If it is not a positive duration.
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([a-z]*)", text.strip().lower())
    if not found or found[2] not in _UNIT_S or float(found[1]) <= 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a duration; expected 60s, 5m, 1.5h or 2d")
    return float(found[1]) * _UNIT_S[found[2]]


def count(text: str) -> int:
    """Return a whole number, 1 or more.

    Raises
    ------
    argparse.ArgumentTypeError
        If it is none.
    """
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"{text!r} is no number of rows; expected 1 or more")
    return int(text)
