"""Tariffs: one file a kind, found by its name; `read` tells kinds apart by their fields."""

from __future__ import annotations

from typing import Any

from models import plugins

from ._ocpi_types import TariffError, exact, loads

__all__ = ["TariffError", "exact", "loads", "read"]


def read(data: Any) -> Any:
    """Return the tariff that JSON data describes, of whichever kind it is.

    Raises
    ------
    TariffError
        If no kind knows it, or the kind that does finds it wrong.
    """
    if not isinstance(data, dict):
        raise TariffError(f"a tariff is a JSON object, got {type(data).__name__}")
    kinds = plugins.names(__name__)
    for kind in kinds:
        module = plugins.load(__name__, kind)
        if module.matches(data):
            return module.read(data)
    raise TariffError(f"no tariff: fields {sorted(data)[:8]}; known kinds are {', '.join(kinds)}")
