"""The configuration as text: the commented sample and the masked effective settings."""

from __future__ import annotations

import dataclasses
import inspect
import re
import textwrap
from typing import TYPE_CHECKING, Any, get_origin

from pydantic.fields import FieldInfo

from models import plugins
from models.secret import Secret

from .config_fields import (
    expectation,
    holds_tables,
    is_secret,
    is_text,
    section_of,
    shown,
    span,
    toml_value,
    unit_of,
)
from .config_sections import DETECTORS, RouteSection, Section

if TYPE_CHECKING:
    from .config import Config

_HEAD = """\
Configuration of chargestream. Every value below is the default.
An environment variable overrides a key: CHARGESTREAM_MQTT__HOST=broker.example (lists as JSON).
Secrets are references: "env:NAME" reads an environment variable, "file:PATH" the content of a file."""

_DIALECTS = """\
Options of dialects that have any: a table [dialects.NAME] by the name of each."""

_DETECTORS = """\
Detectors: a table by the name of each, with `enabled` and its own thresholds. All are enabled; thresholds
that are not set here follow the program's defaults. Uncomment a table's head and what you change."""


def _comment(text: str) -> list[str]:
    lines: list[str] = []
    for line in text.splitlines():
        lines += textwrap.wrap(line, 106) or [""]
    return [f"# {line}".rstrip() for line in lines]


def sample(root: type[Config]) -> str:
    """Return the sample file of `root`: every setting at its default, with unit and bounds."""
    lines = _comment(_HEAD)
    defaults = root()
    for name in root.model_fields:
        lines.append("")
        value = getattr(defaults, name)
        if name == "routes":
            lines += _sample_routes(value)
        elif name == "dialects":
            lines += _comment(_DIALECTS)
        elif name == "detectors":
            lines += _sample_detectors()
        else:
            lines += _sample_section(name, value)
    return "\n".join(lines) + "\n"


def _sample_section(name: str, section: Section) -> list[str]:
    lines = [*_comment(inspect.getdoc(type(section)) or ""), f"[{name}]"]
    for key, field in type(section).model_fields.items():
        lines += _comment(f"{field.description} {_limits(key, field)}")
        value = getattr(section, key)
        if holds_tables(field):
            lines += _sample_tables(f"{name}.{key}", field)
            continue
        lines.append(f"{key} = {toml_value('' if isinstance(value, Secret) else value)}")
    return lines


def _sample_tables(place: str, field: FieldInfo) -> list[str]:
    """Return a table of a field of tables as a comment: there is none by default."""
    inner = section_of(field.annotation) or Section
    lines = ["#", f"# [{place}.NAME]"]
    for key, setting in inner.model_fields.items():
        value = "" if isinstance(setting.default, Secret) else setting.default
        lines += [f"# {line}" for line in _comment(f"{setting.description} {_limits(key, setting)}")]
        lines.append(f"# {key} = {toml_value(value)}")
    return lines


def _limits(key: str, field: FieldInfo) -> str:
    """Return unit and bounds of a number, or the choices, as the end of a comment."""
    if field.annotation is bool or (is_text(field) and get_origin(field.annotation) is None):
        return 'A reference "env:NAME" or "file:PATH".' if is_secret(field) else ""
    words = ", ".join(filter(None, (unit_of(key), span(field)))) or expectation(field)
    return f"{words[:1].upper()}{words[1:]}."


def _sample_routes(routes: tuple[RouteSection, ...]) -> list[str]:
    lines = _comment(inspect.getdoc(RouteSection) or "")
    for key, field in RouteSection.model_fields.items():
        lines += _comment(f"{key}: {field.description}")
    return lines + _routes(routes)


def _routes(routes: tuple[RouteSection, ...]) -> list[str]:
    lines = []
    for route in routes:
        pattern, dialect = toml_value(route.pattern), toml_value(route.dialect)
        lines += ["[[routes]]", f"pattern = {pattern}", f"dialect = {dialect}"]
    return lines


def _sample_detectors() -> list[str]:
    lines = _comment(_DETECTORS)
    for name in plugins.names(DETECTORS):
        config = plugins.load(DETECTORS, name).Config
        notes = _field_notes(config)
        lines += ["#", f"# [detectors.{name}]", "# enabled = true"]
        for field in dataclasses.fields(config):
            lines += [f"# {line}" for line in _comment(notes.get(field.name, ""))]
            lines.append(f"# {field.name} = {toml_value(getattr(config(), field.name))}")
    return lines


def _field_notes(config: type[Any]) -> dict[str, str]:
    """Return what the class docstring's Attributes section says of each field, in one line."""
    doc = (inspect.getdoc(config) or "").partition("Attributes\n----------\n")[2]
    notes: dict[str, str] = {}
    names: list[str] = []
    for line in doc.splitlines():
        if line and not line.startswith(" "):
            names = re.split(r",\s*", line.split(":")[0].strip())
        elif line.strip():
            for name in names:
                notes[name] = f"{notes.get(name, '')} {line.strip()}".strip()
    # The default stands in the line below.
    return {name: re.sub(r"Default \S+\. ?", "", note) for name, note in notes.items()}


def show(config: Config) -> str:
    """Return the effective settings as TOML; secrets appear as their reference or masked."""
    lines: list[str] = []
    for name in type(config).model_fields:
        value = getattr(config, name)
        if name == "routes":
            lines += _routes(value)
        elif name in {"dialects", "detectors"}:
            for plugin, table in value.items():
                lines += [f"[{name}.{plugin}]", *(f"{k} = {toml_value(v)}" for k, v in table.items())]
        else:
            lines.append(f"[{name}]")
            lines += _shown(value)
            for key, field in type(value).model_fields.items():
                for inner, table in getattr(value, key).items() if holds_tables(field) else ():
                    lines += [f"[{name}.{key}.{inner}]", *_shown(table)]
        if lines and lines[-1]:
            lines.append("")
    return "\n".join(lines)


def _shown(section: Section) -> list[str]:
    """Return the settings of one table, those that are tables themselves left out."""
    lines = []
    for key, field in type(section).model_fields.items():
        if not holds_tables(field):
            held = getattr(section, key)
            lines.append(f"{key} = {toml_value(shown(held)) if is_secret(field) else toml_value(held)}")
    return lines
