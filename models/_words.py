"""Unaligned 4- and 8-byte loads and stores for kernels that write text.

A byte a time costs a line-protocol row 2.6 times what words cost. The callers keep 32 bytes of room
behind what they write, because a word may reach past the text it carries. With the JIT switched off
(``NUMBA_DISABLE_JIT=1``) plain NumPy functions of the same names stand in.
"""

from __future__ import annotations

from typing import Any, Final

import numba
import numpy as np
from numba.core import types
from numba.extending import intrinsic
from numba.np.arrayobj import make_array
from numpy.typing import NDArray

SLACK: Final = 32


class Scratch:
    """Room that lines are written to before they are copied out; kept, because fresh pages are dear.

    Parameters
    ----------
    start_bytes, max_bytes : int
        It doubles from the one to the other as the output asks for it; larger output is put together
        from pieces. Any one line must fit into `max_bytes`.
    """

    def __init__(self, start_bytes: int = 1 << 20, max_bytes: int = 1 << 25) -> None:
        self.array = np.empty(start_bytes, np.uint8)
        self.max_bytes = max_bytes

    def grow(self, used: int) -> bool:
        """Double the room, keeping the first `used` bytes; return False if that is not allowed."""
        if 2 * len(self.array) > self.max_bytes:
            return False
        larger = np.empty(2 * len(self.array), np.uint8)
        larger[:used] = self.array[:used]
        self.array = larger
        return True


def _pointer(context: Any, builder: Any, signature: Any, args: Any, word: Any) -> Any:
    array = make_array(signature.args[0])(context, builder, args[0])
    return builder.bitcast(builder.gep(array.data, [args[1]]), context.get_value_type(word).as_pointer())


def _store(word: Any) -> Any:
    def typed(typingctx: Any, out: Any, at: Any, value: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            builder.store(args[2], _pointer(context, builder, signature, args, word)).align = 1
            return context.get_dummy_value()

        return types.void(out, types.int64, word), codegen

    return typed


def _load64(typingctx: Any, source: Any, at: Any) -> Any:
    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        loaded = builder.load(_pointer(context, builder, signature, args, types.uint64))
        loaded.align = 1
        return loaded

    return types.uint64(source, types.int64), codegen


def _slow_store(dtype: type[np.unsignedinteger[Any]]) -> Any:
    size = np.dtype(dtype).itemsize

    def store(out: NDArray[np.uint8], at: int, value: int) -> None:
        out[at : at + size] = np.array([value], dtype).view(np.uint8)

    return store


def _slow_load64(source: NDArray[np.uint8], at: int) -> np.uint64:
    return np.uint64(source[at : at + 8].copy().view(np.uint64)[0])


if numba.config.DISABLE_JIT:
    store64: Any = _slow_store(np.uint64)
    store32: Any = _slow_store(np.uint32)
    load64: Any = _slow_load64
else:
    store64 = intrinsic(_store(types.uint64))
    store32 = intrinsic(_store(types.uint32))
    load64 = intrinsic(_load64)
