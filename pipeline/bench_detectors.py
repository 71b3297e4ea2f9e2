"""What every detector costs: ns per reading and bytes per EVSE, one core, on a healthy and noisy stream.

Two streams of one-second readings in messages of 60: the ten channels of the budget, AC; and all channels
that stations measure, every second EVSE DC, so that no detector is let off for want of its channels. Every
device is met in the first half of a stream, which is not timed; the best of three passes counts. Times are
those of this process's CPU, so other load on the machine disturbs little.
"""

from __future__ import annotations

import time
from typing import Any, Final

import numpy as np

from models import batch as b
from models import plugins
from models.batch import MessageColumns, ReadingBatch
from models.channels import CHANNEL_ID
from models.detecting import Emissions, Observed
from models.devices import DeviceTable
from models.records import Connector, EvseInventory, Meter
from models.units import NO_TIME, NS_PER_S

#: channel -> what it shows while charging, AC and DC; None: such a station has it not.
_LEVELS: Final[dict[str, tuple[float | None, float | None]]] = {
    "Voltage@L1-N": (230.0, None),
    "Voltage@L2-N": (230.0, None),
    "Voltage@L3-N": (230.0, None),
    "Current.Import@L1": (16.0, None),
    "Current.Import@L2": (16.0, None),
    "Current.Import@L3": (16.0, None),
    "Power.Active.Import": (11_040.0, 40_000.0),
    "Current.Offered": (16.0, 120.0),
    "Temperature/Cable": (41.0, 41.0),
    "x.CP.V": (6.0, 6.0),
    "x.CP.Low.V": (-11.98, None),
    "x.PP.V": (1.51, None),
    "x.Residual.DC": (0.4, None),
    "x.Residual.AC": (1.5, None),
    "Frequency": (50.0, 50.0),
    "Temperature/Body": (30.0, 30.0),
    "Temperature/Outlet": (41.5, 41.5),
    "Power.Factor": (0.99, None),
    "x.Supply12V": (12.0, 12.0),
    "x.RSSI": (-60.0, -60.0),
    "Voltage": (None, 400.0),
    "Current.Import": (None, 100.0),
    "SoC": (None, 50.0),
    "Voltage@L1-N/Inlet": (None, 230.0),
    "Voltage@L2-N/Inlet": (None, 230.0),
    "Voltage@L3-N/Inlet": (None, 230.0),
    "x.Output.V": (None, 400.0),
    "Voltage/EV": (None, 399.6),
    "x.Isolation.R": (None, 2500.0),
    "x.Isolation.C": (None, 1.0),
}
_BUDGET_CHANNELS: Final = 10
#: Noise of one standard deviation, as a share of the level.
_NOISE: Final = 0.001

_T0_NS: Final = 1_780_000_000 * NS_PER_S
_ROWS: Final = 60


def _fleet(n: int, dc: list[bool]) -> DeviceTable:
    """Return a table of n stand-alone EVSEs sampled each second."""
    devices = DeviceTable()
    for i in range(n):
        site = devices.site(f"S{i // 20}")
        node = devices.node(site, f"N{i}")
        row = devices.evse(devices.station(site, f"N{i}", node), 1, node)
        devices.declare(
            row,
            EvseInventory(
                evse=1,
                phases=3,
                p_max_w=22_080.0,
                meter=Meter(f"M{i}"),
                dc=dc[i],
                conns=(Connector(1, "IEC_62196_T2_COMBO" if dc[i] else "IEC_62196_T2", 32.0),),
            ),
        )
        devices.sample_ns[node] = NS_PER_S
        devices.batch_ns[node] = _ROWS * NS_PER_S
    return devices


def stream(evses: int, n_rows: int, per_batch: int, *, everything: bool) -> list[Observed]:
    """Return batches of `per_batch` 60-row messages, one message an EVSE and minute."""
    dc = [everything and i % 2 == 1 for i in range(evses)]
    devices = _fleet(evses, dc)
    names = list(_LEVELS) if everything else list(_LEVELS)[:_BUDGET_CHANNELS]
    levels = np.array([[np.nan if v is None else v for v in _LEVELS[name]] for name in names])
    kind = np.array(dc, np.intp)
    rng = np.random.default_rng(1)
    n_evses = devices.n_evses
    slots = tuple(CHANNEL_ID[name] for name in names)
    quiet = np.array([[name == "Current.Offered"] for name in names])
    out = []
    sent = np.zeros(n_evses, np.int64)
    message = 0
    while message * _ROWS < n_rows:
        numbers = np.arange(message, message + per_batch)
        evse = numbers % n_evses
        order = np.argsort(evse, kind="stable")
        rows = ReadingBatch.empty(per_batch * _ROWS, slots)
        rows.evse[:] = np.repeat(evse[order], _ROWS)
        minute = numbers // n_evses
        rows.time_ns[:] = (
            _T0_NS + minute[order][:, None] * 60 * NS_PER_S + np.arange(_ROWS) * NS_PER_S
        ).ravel()
        rows.order[:] = np.repeat(numbers[order], _ROWS)
        rows.effect_ns[:] = rows.time_ns
        rows.state[:] = b.IN_TRANSACTION | b.CHARGING | b.STATE_KNOWN
        watts = np.array(_LEVELS["Power.Active.Import"], np.float64)[kind[rows.evse]]
        rows.reg_mwh[:] = (rows.time_ns - _T0_NS) // NS_PER_S * np.rint(watts / 3.6).astype(np.int64)
        level = levels[:, kind[rows.evse]]
        noise = rng.standard_normal(level.shape, np.float32) * np.where(quiet, 0.0, _NOISE)
        rows.values[:] = level * (1.0 + noise)
        effect = _T0_NS + (message // n_evses + 1) * 60 * NS_PER_S
        sent[evse] += 1
        messages = MessageColumns(
            numbers,
            numbers,
            np.full(per_batch, effect),
            evse.astype(np.int32),
            np.full(per_batch, b.METER, np.uint8),
            np.ones(per_batch, np.int64),
            numbers // n_evses + 1,
            np.ones(per_batch, np.uint8),
            np.full(per_batch, b.DECODED, np.uint8),
            np.full(per_batch, NO_TIME),
            np.full(per_batch, effect),
        )
        out.append(Observed(devices, rows, messages, []))
        message += per_batch
    return out


def measure(name: str, batches: list[Observed]) -> tuple[float, int, int]:
    """Return (ns per row, bytes of state, emissions) of one detector, best of three passes.

    The first half of the stream is not timed: there every device is new.
    """
    module = plugins.load("models.detectors", name)
    half = len(batches) // 2
    n = sum(len(seen.rows) for seen in batches[half:])
    best, size, emitted = float("inf"), 0, 0
    for _ in range(3):
        detector = module.build(module.Config())
        out = Emissions()
        for seen in batches[:half]:
            detector.process(seen, out)
        start = time.process_time()
        for seen in batches[half:]:
            detector.process(seen, out)
        best = min(best, time.process_time() - start)
        size, emitted = detector.nbytes(), len(out.drain())
    return best / n * 1e9, size, emitted


def table(evses: int, n_rows: int, per_batch: int) -> dict[str, Any]:
    """Return ns per reading with the budget's ten channels and with all, and bytes per EVSE, by detector."""
    few = stream(evses, n_rows, per_batch, everything=False)
    names = plugins.names("models.detectors")
    figures: dict[str, dict[str, float]] = {}
    for name in names:
        cost, _, emitted = measure(name, few)
        figures[name] = {"ns_per_row": round(cost, 2), "emitted": emitted}
    del few
    every = stream(evses, n_rows, per_batch, everything=True)
    for name in names:
        cost, size, emitted = measure(name, every)
        figures[name] |= {
            "ns_per_row_all_channels": round(cost, 2),
            "bytes_per_evse": round(size / evses, 1),
            "emitted": figures[name]["emitted"] + emitted,
        }
    total = {key: round(sum(row[key] for row in figures.values()), 2) for key in next(iter(figures.values()))}
    return {"evses": evses, "rows": n_rows, "detectors": figures, "total": total}


def lines(figures: dict[str, Any]) -> list[str]:
    """Return the table as text, dearest first."""
    out = [f"{'detector':32}{'ns/row':>9}{'all channels':>14}{'bytes/EVSE':>12}{'emitted':>9}"]
    dearest = sorted(figures["detectors"].items(), key=lambda item: -item[1]["ns_per_row_all_channels"])
    for name, row in [*dearest, (f"all {len(dearest)}", figures["total"])]:
        out.append(
            f"{name:32}{row['ns_per_row']:9.2f}{row['ns_per_row_all_channels']:14.2f}"
            f"{row['bytes_per_evse']:12.1f}{row['emitted']:9.0f}"
        )
    return out
