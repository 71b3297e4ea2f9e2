"""A secret that cannot be printed by accident."""

from __future__ import annotations

MASK = "********"


class Secret:
    """A password or token and where it came from.

    Attributes
    ----------
    source : str
        The reference it was read from (``env:NAME``, ``file:PATH``); empty for a literal or for none.

    Examples
    --------
    >>> Secret("hunter2", "env:MQTT_PASSWORD")
    Secret(env:MQTT_PASSWORD)
    >>> f"{Secret('hunter2')}"
    '********'
    """

    __slots__ = ("_value", "source")

    def __init__(self, value: str = "", source: str = "") -> None:
        self._value = value
        self.source = source

    def reveal(self) -> str:
        """Return the secret itself; empty when none is set."""
        return self._value

    def shown(self) -> str:
        """Return what may be printed: the reference, a mask, or nothing when no secret is set."""
        return self.source or (MASK if self._value else "")

    def __bool__(self) -> bool:
        return bool(self._value)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and (self._value, self.source) == (other._value, other.source)

    def __hash__(self) -> int:
        return hash((self._value, self.source))

    def __repr__(self) -> str:
        return f"Secret({self.shown()})"

    def __str__(self) -> str:
        return self.shown()
