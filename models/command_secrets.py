"""What of a command people may read: tokens, passwords and the secrets in addresses are left out."""

from __future__ import annotations

import re
from collections.abc import Iterator
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
    secret = _SECRET_NAME.search(_variable(value)) is not None
    return {name: _field(name, item, secret) for name, item in value.items()}


def without_secrets(text: str, body: Any) -> str:
    """Return `text`, which may quote parts of `body`, without the secrets of that body."""
    for secret in sorted(_secrets(body, shown(body)), key=len, reverse=True):
        text = text.replace(repr(secret), MASK)
        if isinstance(secret, str) and secret:
            text = text.replace(secret, MASK)
    return text


def _secrets(value: Any, masked: Any) -> Iterator[Any]:
    """Yield every text that is not shown."""
    if isinstance(value, dict) and isinstance(masked, dict):
        for name, item in value.items():
            yield from _secrets(item, masked[name])
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _secrets(item, masked[index] if isinstance(masked, list) else MASK)
    elif isinstance(value, str) and value != masked:
        yield value


def _variable(value: dict[str, Any]) -> str:
    """Return the name of the setting that a part of a body is about: OCPP 2.0.1 `variable`, 1.6 `key`."""
    variable = value.get("variable")
    if isinstance(variable, dict):
        return str(variable.get("name", ""))
    return str(value["key"]) if isinstance(value.get("key"), str) and "value" in value else ""


def _field(name: str, item: Any, secret: bool) -> Any:
    if name == "idToken" and isinstance(item, str):
        return MASK
    if secret and name in ("attributeValue", "value"):
        return MASK
    if name in _ADDRESSES and isinstance(item, str):
        return _QUERY.sub(f"?{MASK}", _USER.sub("", item))
    return shown(item)
