"""Figures of a drill as a table in words: what was counted, how much, and what it must be."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple


class Line(NamedTuple):
    """One line: `name` of the figure in the result, its words, and what it must be ("": anything)."""

    name: str
    words: str
    wanted: Any = ""


def in_words(title: str, result: dict[str, Any], lines: Sequence[Line]) -> str:
    """Return the table; a figure that is not what it must be is marked."""
    rows = []
    for name, words, wanted in lines:
        if name not in result:
            continue
        value = result[name]
        bad = wanted != "" and value != wanted
        must = "" if wanted == "" else f"must be {_text(wanted)}{'   <- WRONG' if bad else ''}"
        rows.append((words, _text(value), must))
    first, second = (max(len(row[at]) for row in rows) for at in (0, 1))
    told = [f"  {words:<{first}}  {value:>{second}}  {must}".rstrip() for words, value, must in rows]
    return "\n".join([title, *told, f"{'PASSED' if result['passed'] else 'FAILED'}"])


def _text(value: Any) -> str:
    match value:
        case bool():
            return "yes" if value else "no"
        case int():
            return f"{value:,}"
        case dict():
            return ", ".join(f"{name.replace('_', ' ')} {_text(count)}" for name, count in value.items())
        case list():
            return "; ".join(map(str, value)) or "none"
    return str(value)
