"""Many records by key, each held encoded."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, MutableMapping
from typing import Any, TypeVar

import msgspec

K = TypeVar("K", bound=Hashable)
V = TypeVar("V", bound=msgspec.Struct)


class Packed(MutableMapping[K, V]):
    """A mapping whose values are kept encoded: a fraction of what the objects take.

    Parameters
    ----------
    kind : type
        What the values are; the record read is equal to the one put in.
    """

    def __init__(self, kind: type[V]) -> None:
        self._decoder: msgspec.msgpack.Decoder[Any] = msgspec.msgpack.Decoder(kind)
        self._encoder = msgspec.msgpack.Encoder()
        self._held: dict[K, bytes] = {}

    def __getitem__(self, key: K) -> V:
        value: V = self._decoder.decode(self._held[key])
        return value

    def __setitem__(self, key: K, value: V) -> None:
        self._held[key] = self._encoder.encode(value)

    def __delitem__(self, key: K) -> None:
        del self._held[key]

    def __contains__(self, key: object) -> bool:
        return key in self._held

    def __iter__(self) -> Iterator[K]:
        return iter(self._held)

    def __len__(self) -> int:
        return len(self._held)
