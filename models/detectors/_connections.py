"""What nodes declare, in few bytes: the numbers of their connections and boots, and their periods."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from models._kernel import kernel
from models.batch import I64

#: Numbers are kept plus one, so that 0 is none (-1); the greatest says that a number is kept aside.
_ASIDE: Final = 2**32 - 1

#: The same of boots, 48 bits: some devices number them by a clock of milliseconds.
BOOT_FIELDS: Final[list[tuple[str, str]]] = [("boot_low", "u4"), ("boot_high", "u2")]
BOOT_ASIDE: Final = 2**48 - 2


class Connections:
    """(boot, cid) of each node, (-1, -1) before the first: 8 bytes a node."""

    def __init__(self, resume_state: dict[str, Any] | None = None) -> None:
        self.n = 0
        self._numbers = np.zeros((16, 2), np.uint32)
        self._aside: dict[int, tuple[int, int]] = {}  # that do not fit
        if resume_state is not None:
            self.reserve(len(resume_state["boot"]))
            numbers = zip(resume_state["boot"].tolist(), resume_state["cid"].tolist(), strict=True)
            for node, connection in enumerate(numbers):
                self[node] = connection

    def reserve(self, n: int) -> None:
        """Have room for nodes 0 to n - 1."""
        if n > len(self._numbers):
            more = max(n, 2 * len(self._numbers)) - len(self._numbers)
            self._numbers = np.concatenate([self._numbers, np.zeros((more, 2), np.uint32)])
        self.n = max(self.n, n)

    def __getitem__(self, node: int) -> tuple[int, int]:
        boot, cid = self._numbers[node].tolist()
        return self._aside[node] if boot == _ASIDE else (boot - 1, cid - 1)

    def __setitem__(self, node: int, connection: tuple[int, int]) -> None:
        self._aside.pop(node, None)
        if min(connection) >= -1 and max(connection) < _ASIDE - 1:
            self._numbers[node] = connection[0] + 1, connection[1] + 1
        else:
            self._numbers[node] = _ASIDE
            self._aside[node] = connection

    def snapshot(self) -> dict[str, Any]:
        """Return plain data."""
        numbers = np.array([self[node] for node in range(self.n)], np.int64).reshape(self.n, 2)
        return {"boot": numbers[:, 0].copy(), "cid": numbers[:, 1].copy()}

    @property
    def nbytes(self) -> int:
        """Bytes held (of numbers kept aside an estimate)."""
        return 8 * self.n + 200 * len(self._aside)


@kernel
def boot_of(rec: Any) -> int:
    """Return the boot of a record with `BOOT_FIELDS`, -1 for none, `BOOT_ASIDE` for one kept elsewhere."""
    return int(np.int64(rec["boot_low"]) + (np.int64(rec["boot_high"]) << 32) - 1)


def set_boot(rec: Any, boot: int) -> bool:
    """Keep a boot in a record with `BOOT_FIELDS`; return whether it fits."""
    number = min(boot, BOOT_ASIDE) + 1
    rec["boot_low"], rec["boot_high"] = number & 0xFFFFFFFF, number >> 32
    return boot < BOOT_ASIDE


class Periods:
    """Sets of periods that nodes declare, numbered: a fleet has few, whatever its size.

    Attributes
    ----------
    values : ndarray, shape (n, width), int64
        Number -> periods, ns. Number 0 is what undeclared nodes have.
    """

    def __init__(self, undeclared: tuple[int, ...], saved: NDArray[Any] | None = None) -> None:
        self._number: dict[tuple[int, ...], int] = {}
        self.values: I64 = np.zeros((0, len(undeclared)), np.int64)
        for periods in [undeclared] if saved is None else saved.tolist():
            self.number(tuple(periods))

    def number(self, periods: tuple[int, ...]) -> int:
        """Return the number of a set of periods."""
        known = self._number.get(periods)
        if known is None:
            known = self._number[periods] = len(self.values)
            self.values = np.concatenate([self.values, np.array([periods], np.int64)])
        return known

    def tidy(self, numbers: NDArray[Any]) -> None:
        """Forget sets that no node has any more once they are many; `numbers` (nodes') change with it."""
        if len(self.values) <= 64 + 2 * len(numbers):
            return
        used = np.union1d([0], numbers)
        values = self.values[used]
        numbers[:] = np.searchsorted(used, numbers)
        self._number, self.values = {}, values[:0]
        for periods in values.tolist():
            self.number(tuple(periods))

    @property
    def nbytes(self) -> int:
        """Bytes held (an estimate)."""
        return self.values.nbytes + 150 * len(self._number)
