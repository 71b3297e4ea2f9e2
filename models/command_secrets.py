"""What of a command's body people may read: tokens, passwords and the secrets in addresses are left out."""

from __future__ import annotations

import re
from typing import Any, Final

from .secret import MASK

_SECRET_NAME: Final = re.compile(r"password|secret|key|credential|token", re.IGNORECASE)
_ADDRESSES: Final = frozenset({"location", "remoteLocation"})
#: user:password@ and everything after the path of an address
_USER: Final = re.compile(r"(?<=://)[^/@]*@")
_QUERY: Final = re.compile(r"[?#].*\Z", re.DOTALL)


def shown(value: Any) -> Any:
    """Return a copy of a body without its secrets."""
    if isinstance(value, list):
        return [shown(item) for item in value]
    if not isinstance(value, dict):
        return value
    secret = (
        _SECRET_NAME.search(str((value.get("variable") or {}).get("name", ""))) if _names(value) else None
    )
    return {name: _field(name, item, secret is not None) for name, item in value.items()}


def _names(value: dict[str, Any]) -> bool:
    return isinstance(value.get("variable"), dict)


def _field(name: str, item: Any, secret: bool) -> Any:
    if name == "idToken" and isinstance(item, str):
        return MASK
    if name == "attributeValue" and secret:
        return MASK
    if name in _ADDRESSES and isinstance(item, str):
        return _QUERY.sub(f"?{MASK}", _USER.sub("", item))
    return shown(item)
