"""The operator message that chooses a model: ``evt/v1/_op/model`` {"model": id, "shadow": id, "by": name}.

A role that is left out stays as it is; an empty id leaves it to nobody. It names no site:
every shard hears it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from models.topics import OPERATOR_SITE, ROOT

KIND: Final = "model"
TOPIC: Final = f"{ROOT}/{OPERATOR_SITE}/{KIND}"
ROLES: Final = ("model", "shadow")


def promotion(role: str, model_id: str, by: str) -> dict[str, str]:
    """Return the body of the message that gives a role to a model."""
    return {role: model_id, "by": by}


def wanted(body: Mapping[str, Any], now: Mapping[str, str]) -> dict[str, str] | None:
    """Return the ids by role that `body` asks for where `now` stands, None if it is no such message."""
    out = {role: body.get(role, now[role]) for role in ROLES}
    return out if all(isinstance(name, str) for name in out.values()) else None
