"""The operator message that chooses a model: ``evt/v1/_op/model``.

``{"kind": "session", "model": id, "shadow": id, "by": name}``: a role that is left out stays as it is; an
empty id leaves it to nobody; without a kind it is about sessions. It names no site: every shard hears it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from models.topics import OPERATOR_SITE, ROOT

KIND: Final = "model"
TOPIC: Final = f"{ROOT}/{OPERATOR_SITE}/{KIND}"
ROLES: Final = ("model", "shadow")
_DEFAULT_KIND: Final = "session"


def promotion(kind: str, role: str, model_id: str, by: str) -> dict[str, str]:
    """Return the body of the message that gives a role to a model of a kind."""
    return {"kind": kind, role: model_id, "by": by}


def wanted(body: Mapping[str, Any], kind: str, now: Mapping[str, str]) -> dict[str, str] | None:
    """Return the ids by role that `body` asks for where `now` stands; None if it is not about this kind."""
    out = {role: body.get(role, now[role]) for role in ROLES}
    if body.get("kind", _DEFAULT_KIND) != kind:
        return None
    return out if all(isinstance(name, str) for name in out.values()) else None
