"""Plug-ins are found by file name: ``models/detectors/register_stuck.py`` is `register_stuck`.

Listing imports nothing; an unknown name answers with the known ones.
"""

from __future__ import annotations

import functools
import importlib
import pkgutil
from types import ModuleType

from .errors import ConfigError


@functools.cache
def _names(package: str) -> tuple[str, ...]:
    module = importlib.import_module(package)
    found = (m.name for m in pkgutil.iter_modules(module.__path__))
    return tuple(sorted(name for name in found if not name.startswith("_")))


def names(package: str) -> list[str]:
    """Return the plug-in names of a package, sorted; files starting with ``_`` are no plug-ins."""
    return list(_names(package))


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
