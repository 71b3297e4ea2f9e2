"""Start-up check: the plain names of our packages lead to us and not to a neighbour of the same name."""

from __future__ import annotations

import importlib
from pathlib import Path

from models.errors import ConfigError

PACKAGES = ("models", "connectors", "pipeline")


def packages() -> None:
    """Check that `models`, `connectors` and `pipeline` come from one place.

    Raises
    ------
    ConfigError
        If one of them is another package that is installed, or stands in the folder we run in.
    """
    home = Path(__file__).resolve().parent.parent
    for name in PACKAGES:
        found = importlib.import_module(name).__file__
        if found is None or Path(found).resolve() != home / name / "__init__.py":
            raise ConfigError(
                f"package {name} is {found or 'a folder without __init__.py'}, expected "
                f"{home / name / '__init__.py'}: install chargestream in an environment of its own and "
                "start it by its console command"
            )
