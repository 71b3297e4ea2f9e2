"""Plug-ins are found by file name: ``models/detectors/register_stuck.py`` is `register_stuck`.

Listing imports nothing; an unknown name answers with the known ones.
"""

from __future__ import annotations

import importlib
import pkgutil
from types import ModuleType

from .errors import ConfigError


def names(package: str) -> list[str]:
    """Return the plug-in names of a package, sorted; files starting with ``_`` are no plug-ins."""
    module = importlib.import_module(package)
    return sorted(m.name for m in pkgutil.iter_modules(module.__path__) if not m.name.startswith("_"))


def load(package: str, name: str) -> ModuleType:
    """Return the plug-in module `name` of `package`.

    Raises
    ------
    ConfigError
        If there is no such plug-in.
    """
    known = names(package)
    if name not in known:
        raise ConfigError(f"{package}: no plug-in named {name!r}; there are {', '.join(known)}")
    return importlib.import_module(f"{package}.{name}")
