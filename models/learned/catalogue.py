"""Models of every kind in a folder."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from models.errors import ConfigError

from . import power_model, session_model
from .model_file import SUFFIX, read

Learned = session_model.SessionModel | power_model.PowerModel

KINDS: Final = (session_model.KIND, power_model.KIND)


def load(path: Path) -> Learned:
    """Read a model of any kind.

    Raises
    ------
    ConfigError
        As the `load` of its kind.
    """
    kind = read(path)[0].get("kind")
    if kind == session_model.KIND:
        return session_model.load(path)
    if kind == power_model.KIND:
        return power_model.load(path)
    raise ConfigError(f"{path}: a model of kind {kind!r}; this program reads {', '.join(KINDS)}")


def ids(directory: Path) -> list[Path]:
    """Return the files of a folder of models."""
    return sorted(directory.glob(f"*{SUFFIX}"))
