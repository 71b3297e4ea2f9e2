"""What the fields of the configuration say of themselves: place, expectation, comment."""

from __future__ import annotations

import re
import types
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal, get_args, get_origin

from pydantic.fields import FieldInfo

from models.secret import MASK, Secret

from .config_sections import Section

#: Unit at the end of a name -> word for the comment; the first that fits counts.
UNITS = (
    ("_rows_per_s", "rows per second"),
    ("_per_h", "per hour"),
    ("_ms", "milliseconds"),
    ("_s", "seconds"),
    ("_hours", "hours"),
    ("_bytes", "bytes"),
    ("_mib", "MiB"),
    ("_gib", "GiB"),
    ("_messages", "messages"),
    ("_points", "points"),
    ("_quarters", "quarter hours"),
    ("_days", "days"),
    ("_cycles", "plug cycles"),
    ("_kwh", "kWh"),
    ("_operations", "operations"),
    ("_connectors", "connectors"),
    ("_c", "degrees Celsius"),
)

Path = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Mistake:
    """One wrong setting: where it stands, what stands there (masked), what should."""

    path: Path
    expected: str
    value: str | None = None  # None: not shown


def unit_of(name: str) -> str | None:
    """Return the word for the unit that ends a setting's name."""
    return next((word for suffix, word in UNITS if name.endswith(suffix)), None)


def section_of(annotation: Any) -> type[Section] | None:
    """Return the section class behind an annotation, also inside a tuple."""
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return annotation
    for part in get_args(annotation):
        found = section_of(part)
        if found:
            return found
    return None


def holds_tables(field: FieldInfo) -> bool:
    """Return whether a field holds tables of settings by name."""
    return get_origin(field.annotation) is dict and section_of(field.annotation) is not None


def field_at(root: type[Section], path: Path) -> FieldInfo | None:
    """Return the field that `path` leads to (list positions and names of tables are skipped), or None."""
    model: type[Section] | None = root
    field: FieldInfo | None = None
    named = False
    for step in path:
        if isinstance(step, int) or named:
            named = False
            continue
        if model is None or step not in model.model_fields:
            return field if model is None else None
        field = model.model_fields[step]
        model = section_of(field.annotation)
        named = holds_tables(field)
    return field


def walk(root: type[Section], prefix: Path = ()) -> Iterator[tuple[Path, FieldInfo]]:
    """Yield every setting of single sections with its path, in order."""
    for name, field in root.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, Section):
            yield from walk(field.annotation, (*prefix, name))
        else:
            yield (*prefix, name), field


def is_secret(field: FieldInfo | None) -> bool:
    """Return whether a field holds a secret."""
    return field is not None and field.annotation is Secret


def is_text(field: FieldInfo) -> bool:
    """Return whether a field's value is text, so that an environment variable is taken as it is."""
    note = field.annotation
    if get_origin(note) is Literal:
        return all(isinstance(choice, str) for choice in get_args(note))
    return note in (str, Secret)


def _bounds(field: FieldInfo) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for item in field.metadata:
        for name in ("ge", "le", "min_length", "max_length", "pattern"):
            value = getattr(item, name, None)
            if value is not None:
                found[name] = value
    return found


def _number(value: float) -> str:
    return f"{value:g}" if isinstance(value, float) else f"{value}"


def expectation(field: FieldInfo) -> str:
    """Return what a field's value must be, in words with its bounds."""
    note, bounds = field.annotation, _bounds(field)
    if get_origin(note) is Literal:
        return "one of " + ", ".join(toml_value(choice) for choice in get_args(note))
    if note is bool:
        return "true or false"
    if note in (int, float):
        kind = "a whole number" if note is int else "a number"
        return f"{kind} from {span(field)}"
    if note is Secret:
        return 'a reference "env:NAME" or "file:PATH"'
    if section_of(note):
        if holds_tables(field):
            return "tables by name"
        return "a list of tables" if get_origin(note) is tuple else "a table"
    if get_origin(note) is tuple:
        return "a list of texts"
    if isinstance(note, types.GenericAlias):
        return "a table"
    if "pattern" in bounds:
        return f"text matching {bounds['pattern']}"
    return "text that is not empty" if bounds.get("min_length") else "text"


def span(field: FieldInfo) -> str:
    """Return the bounds of a number as ``low to high``, or nothing."""
    bounds = _bounds(field)
    return f"{_number(bounds['ge'])} to {_number(bounds['le'])}" if "ge" in bounds else ""


def shown(value: Any) -> str:
    """Return a value for a message: short, and passwords inside addresses masked."""
    text = value.shown() if isinstance(value, Secret) else toml_value(value)
    text = re.sub(r"(://[^/@\s:]*:)[^/@\s]*@", rf"\1{MASK}@", text)
    return text if len(text) <= 120 else text[:117] + "..."


def toml_value(value: Any) -> str:
    """Return a plain value as TOML."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        escaped = re.sub(r'["\\]', r"\\\g<0>", value)
        escaped = re.sub(r"[\x00-\x1f\x7f]", lambda m: f"\\u{ord(m[0]):04x}", escaped)
        return f'"{escaped}"'
    if isinstance(value, list | tuple):
        return "[" + ", ".join(toml_value(item) for item in value) + "]"
    if isinstance(value, Section):
        value = {name: getattr(value, name) for name in type(value).model_fields}
    if isinstance(value, dict):
        return "{" + ", ".join(f"{k} = {toml_value(v)}" for k, v in value.items()) + "}"
    return str(value)
