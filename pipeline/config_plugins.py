"""Settings of plug-ins, checked against the frozen dataclass ``Config`` of each plug-in's file.

A plug-in without one (a dialect) checks its options in ``build``.
"""

from __future__ import annotations

import dataclasses
import difflib
import re
from typing import Any, get_type_hints

from pydantic import ConfigDict, ValidationError, create_model

from models import plugins
from models.errors import ConfigError

from .config_fields import Mistake, Path, shown

_RULES = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)
_TYPES = {"int": "a whole number", "float": "a number", "bool": "true or false", "str": "text"}


def did_you_mean(name: str, known: list[str]) -> str:
    """Return ``; did you mean X?`` for a misspelt name, or nothing."""
    close = difflib.get_close_matches(name, known, 1, 0.6)
    return f'; did you mean "{close[0]}"?' if close else ""


def check(
    section: str, package: str, tables: Any, *, switch: bool
) -> tuple[dict[str, dict[str, Any]], list[Mistake]]:
    """Check the tables of a section whose names are plug-ins of `package`.

    Parameters
    ----------
    switch : bool
        Whether each table may hold ``enabled``.

    Returns
    -------
    tuple
        The tables that say anything, without faults, and the mistakes. A plug-in is imported only if a
        table sets more than ``enabled``.
    """
    if not isinstance(tables, dict):
        return {}, [Mistake((section,), "a table", shown(tables))]
    known = plugins.names(package)
    good: dict[str, dict[str, Any]] = {}
    mistakes: list[Mistake] = []
    for name, table in tables.items():
        if name not in known:
            hint = did_you_mean(name, known) or f"; there are {', '.join(known)}"
            mistakes.append(Mistake((section, name), f"the name of a plug-in{hint}"))
        elif not isinstance(table, dict):
            mistakes.append(Mistake((section, name), "a table", shown(table)))
        else:
            found = _check_table((section, name), package, table, switch)
            mistakes += found
            if table and not found:
                good[name] = dict(table)
    return good, mistakes


def _check_table(path: Path, package: str, table: dict[str, Any], switch: bool) -> list[Mistake]:
    mistakes = []
    if switch and not isinstance(table.get("enabled", True), bool):
        mistakes.append(Mistake((*path, "enabled"), "true or false", shown(table["enabled"])))
    settings = {k: v for k, v in table.items() if not (switch and k == "enabled")}
    if settings:
        module = plugins.load(package, str(path[-1]))
        if hasattr(module, "Config"):
            mistakes += _check_settings(path, module.Config, settings, switch)
        else:
            try:
                module.build(settings)
            except ConfigError as error:
                mistakes.append(Mistake(path, f"options that it takes: {error}"))
    return mistakes


def _check_settings(path: Path, config: type[Any], settings: dict[str, Any], switch: bool) -> list[Mistake]:
    hints = get_type_hints(config)
    types: dict[str, Any] = {f.name: (hints[f.name], f.default) for f in dataclasses.fields(config)}
    mistakes = []
    try:
        create_model("Settings", __config__=_RULES, **types)(**settings)
    except ValidationError as error:
        for item in error.errors():
            key = str(item["loc"][0])
            if key in types:
                kind = getattr(hints[key], "__name__", str(hints[key]))
                mistakes.append(Mistake((*path, key), _TYPES.get(kind, kind), shown(settings[key])))
            else:
                hint = did_you_mean(key, [*types, *["enabled"] * switch]) or f"; it has {', '.join(types)}"
                mistakes.append(Mistake((*path, key), f"a setting of this plug-in{hint}"))
    wrong = {mistake.path[-1] for mistake in mistakes}
    try:
        config(**{key: value for key, value in settings.items() if key not in wrong})
    except (ConfigError, ValueError) as error:
        mistakes += [_said(path, line) for line in str(error).splitlines()]
    return mistakes


def _said(path: Path, line: str) -> Mistake:
    """Return the mistake that a plug-in reports as ``[section] key = value: expected ...``."""
    found = re.fullmatch(r"\[[^\]]*\] (\w+) = (.*): expected (.*)", line)
    return (
        Mistake((*path, found[1]), found[3], found[2]) if found else Mistake(path, f"values that fit: {line}")
    )


def build_configs(package: str, tables: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Return the ``Config`` of every enabled plug-in of `package`, by name, as `tables` sets it."""
    configs = {}
    for name in plugins.names(package):
        table = tables.get(name, {})
        if table.get("enabled", True):
            settings = {k: v for k, v in table.items() if k != "enabled"}
            configs[name] = plugins.load(package, name).Config(**settings)
    return configs
