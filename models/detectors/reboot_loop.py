"""A device that starts again and again: the boot counter of its messages grows 4 times within 60 minutes.

Any message may show the new number, a birth first of all. The first number seen of a node is no growth. A
number that came with a backlog shows when it was sent, not when the device started: it is taken over and
not counted. By how much the counter grows says nothing: some devices number boots by their clock.

Starts with the first of the four; ends when the last four no longer lie within 60 minutes, and clears 60 s
after that.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from models._kernel import kernel
from models.batch import DECODED, I32, I64, U8, MessageColumns, ReadingBatch
from models.detecting import DetectorSpec, Emissions, Observed
from models.devices import DeviceTable

from ._base import Table, ns, require
from ._connections import BOOT_ASIDE, BOOT_FIELDS, boot_of, set_boot
from ._repeats import EVIDENCE, MOST, Moment, Often, RepeatDetector

SPEC = DetectorSpec("reboot_loop", "node", "rule", evidence=EVIDENCE)


@dataclass(frozen=True, slots=True)
class Config:
    """Limits of `reboot_loop`.

    Attributes
    ----------
    boots : int
        Growths of the boot counter that raise. Unit: boots. Default 4. Source: CONVENTIONS.
    window_s : float
        Time within which they lie. Unit: s. Default 3600. Source: CONVENTIONS.
    hold_s : float
        Clear this long after it was over. Unit: s. Default 60. Source: CONVENTIONS, clear.
    """

    boots: int = 4
    window_s: float = 3600.0
    hold_s: float = 60.0

    def __post_init__(self) -> None:
        require(self, boots=(2, MOST), window_s=(1.0, 7 * 86_400.0), hold_s=(0.0, 86_400.0))


@kernel
def _grown_kernel(
    at: int, stop: int, node: I32, boot: I64, fate: U8, effect_ns: I64, nodes: Any, due_ns: int
) -> int:
    """Return the first message from `at` that shows a greater boot, or at whose time something is due."""
    for k in range(at, stop):
        if node[k] >= 0 and boot[k] > min(boot_of(nodes[node[k]]), BOOT_ASIDE - 1) and fate[k] == DECODED:
            return k
        if effect_ns[k] >= due_ns:
            return k
    return stop


class Detector(RepeatDetector):
    """The detector behind `reboot_loop`."""

    def __init__(self, config: Config, resume_state: dict[str, Any] | None = None) -> None:
        often = Often(int(config.boots), ns(config.window_s), ns(config.hold_s))
        super().__init__(SPEC, often, {"node": 0}, resume_state)
        self._boots = Table(BOOT_FIELDS, {})
        self._aside: dict[int, int] = {}  # boots that the table has no room for
        if resume_state is not None:
            self._boots.load(resume_state["boots"], SPEC.code)
            self._aside = dict(resume_state["aside"])
        # compiled (or read from the cache) here, not at the first message of a live stream
        self._walk(Observed(DeviceTable(), ReadingBatch.empty(), MessageColumns.empty(), []), 0, 0)

    def process(self, seen: Observed, out: Emissions) -> None:
        """Take in one batch and emit what changed."""
        self._boots.reserve(seen.devices.n_nodes)
        super().process(seen, out)

    def _walk(self, seen: Observed, at: int, stop: int) -> int:
        m, nodes = seen.messages, self._boots.rows
        return int(_grown_kernel(at, stop, m.node, m.boot, m.fate, m.effect_ns, nodes, self.due_ns))

    def _due(self, now_ns: int, order: int, seen: Observed, out: Emissions) -> None:
        m = seen.messages
        k = int(np.searchsorted(m.order, order))
        node, boot = int(m.node[k]), int(m.boot[k])
        if node >= 0 and m.fate[k] == DECODED:
            known = self._aside.get(node, int(boot_of(self._boots.rows[node])))
            if boot > known and not set_boot(self._boots.rows[node], boot):
                self._aside[node] = boot
            if 0 <= known < boot and m.live[k]:
                self.happened("node", node, Moment(now_ns, order, now_ns, True), out)
        super()._due(now_ns, order, seen, out)

    def snapshot(self) -> dict[str, Any]:
        """Return the whole state as plain data, copied."""
        aside = [[node, boot] for node, boot in sorted(self._aside.items())]
        return super().snapshot() | {"boots": self._boots.columns(), "aside": aside}

    def nbytes(self) -> int:
        """Return the bytes of state held."""
        return super().nbytes() + self._boots.nbytes + 100 * len(self._aside)

    def _record(self, record: Any, seen: Observed, out: Emissions) -> None:
        """Records say nothing beyond their messages."""


def build(config: Config, resume_state: dict[str, Any] | None = None) -> Detector:
    """Return the detector, with the state of `resume_state` if given."""
    return Detector(config, resume_state)
