"""Load or compile every kernel before the first message waits for one."""

from __future__ import annotations

import dataclasses
import itertools
import sys
import threading
from collections.abc import Callable
from typing import Any

import msgspec

from models.frame import Frame
from models.units import NS_PER_S

from .flow import Stages

_PATIENCE_S = 4.0
_COMPILING = (
    "compiling kernels; the first start after an installation or upgrade takes a minute or two, "
    "later ones seconds"
)
_T0_MS = 1_780_000_000_000
_CHANNELS = (
    "Voltage@L1-N",
    "Voltage@L2-N",
    "Voltage@L3-N",
    "Current.Import@L1",
    "Current.Import@L2",
    "Current.Import@L3",
    "Power.Active.Import",
    "Energy.Active.Import.Register",
    "Current.Offered",
    "Temperature/Cable",
)


def _message(second: int, kind: str, body: dict[str, Any]) -> tuple[int, bytes, bytes, int]:
    topic = f"evt/v1/warmup/warmup/up/{kind}".encode()
    return (_T0_MS + 1000 * second) * 1_000_000, topic, msgspec.json.encode({"v": 1, "boot": 1} | body), 0


def _frame() -> Frame:
    """Return a few messages of an invented station that touch every kernel."""
    evse = {
        "evse": 1,
        "u_n_v": 230,
        "phases": 3,
        "p_max_w": 22080,
        "meter": {"serial": "0", "resolution_wh": 1},
        "conns": [{"conn": 1, "type": "IEC_62196_T2", "max_a": 32}],
    }
    birth = {"online": True, "cid": 1, "hb_s": 60, "sample_s": 1, "batch_s": 60, "evses": [evse]}
    messages = [_message(0, "conn", birth)]
    for k in range(3):
        rows = [
            [1000 * i, 230.5, 230.1, 229.9, 16.0, 16.0, 16.0, 11040, 1000 + 3 * (60 * k + i), 16, 40.0]
            for i in range(60)
        ]
        series = [{"evse": 1, "conn": 1, "t0": _T0_MS + 60_000 * k, "ch": _CHANNELS, "rows": rows}]
        messages.append(_message(60 * (k + 1), "meter", {"seq": k + 1, "series": series}))
    ticks = [((_T0_MS // 1000 + s) * NS_PER_S, b"", b"", 2) for s in (200, 2000)]
    return Frame.build([*messages, *ticks])


def _say_to_screen(text: str) -> None:
    sys.stderr.write(f"chargestream: {text}\n")
    sys.stderr.flush()


def warm_up(stages: Stages, say: Callable[[str], None] = _say_to_screen) -> None:
    """Run an invented station through throw-away stages; say what takes so long when it does."""
    slow = threading.Timer(_PATIENCE_S, say, (_COMPILING,))
    slow.daemon = True
    slow.start()
    try:
        memory = dataclasses.replace(
            stages, archive_dir=None, detecting=[]
        )  # the status does not tell of these
        items: list[Any] = list(memory.build_order(0, None).process((0, 0, _frame())))
        builders = (
            memory.build_detect,
            memory.build_bill,
            memory.build_control,
            memory.build_maintain,
            memory.build_emit,
        )
        for builder in builders:
            stage = builder(0, None)
            items = list(itertools.chain.from_iterable(stage.process(item) for item in items))
    finally:
        slow.cancel()
