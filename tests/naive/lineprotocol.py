"""Line protocol the plain way: one loop, strings, `Decimal`; knows nothing of the kernels."""

from __future__ import annotations

import math
from decimal import Decimal


def number(value: float, decimals: int) -> str:
    """Return `value` at `decimals` decimals, trailing zeros and minus zero removed."""
    scaled = round(value * 10.0**decimals)  # Python rounds half to even, like numpy.rint
    text = format(Decimal(scaled).scaleb(-decimals), "f")
    if "." in text:
        text = text.rstrip("0").rstrip(".")
    return "0" if text == "-0" else text


def wh(mwh: int) -> str:
    """Return integer mWh in Wh."""
    text = format(Decimal(mwh).scaleb(-3), "f").rstrip("0").rstrip(".")
    return "0" if text in {"", "-", "-0"} else text


def escape(text: str) -> str:
    """Return a tag value as it stands in a line."""
    out = ""
    for letter in text:
        if letter in ",= ":
            out += "\\" + letter
        elif letter == "\\" or ord(letter) < 32 or ord(letter) == 127:
            out += f"%{ord(letter):02X}"
        else:
            out += letter
    return out


def line(
    measurement: str,
    tags: list[tuple[str, str]],
    floats: list[tuple[str, float, int]],
    others: list[tuple[str, str]],
    time_ns: int,
) -> str:
    """Return one line with its line feed, or nothing when no field is left."""
    fields = [f"{name}={number(value, d)}" for name, value, d in floats if math.isfinite(value)]
    fields += [f"{name}={text}" for name, text in others]
    if not fields:
        return ""
    head = measurement + "".join(f",{key}={escape(value) or '-'}" for key, value in tags)
    return f"{head} {','.join(fields)} {time_ns}\n"
