"""Time per reading and bytes per EVSE of every detector.

``python -m tests.bench.detectors [--rows 1000000] [--evses 100] [--messages 100]``: a stream of 60-row
messages with 10 channels, healthy and noisy, `--messages` of them a batch, no emissions expected. Best of
three passes per detector, one core; the last line is the sum. Prints the figures as a table and, with
``--json``, as one JSON line.
"""

from __future__ import annotations

import argparse
import json
import time

import numpy as np

from models import batch as b
from models import plugins
from models.batch import MessageColumns, ReadingBatch
from models.channels import CHANNEL_ID
from models.detecting import Emissions, Observed
from models.devices import DeviceTable
from models.records import Connector, EvseInventory, Meter
from models.units import NO_TIME, NS_PER_S

CHANNELS = (
    "Voltage@L1-N",
    "Voltage@L2-N",
    "Voltage@L3-N",
    "Current.Import@L1",
    "Current.Import@L2",
    "Current.Import@L3",
    "Power.Active.Import",
    "Current.Offered",
    "Temperature/Cable",
    "x.CP.V",
)
T0_NS = 1_780_000_000 * NS_PER_S
ROWS = 60


def fleet(n: int) -> DeviceTable:
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
                conns=(Connector(1, "IEC_62196_T2", 32.0),),
            ),
        )
        devices.sample_ns[node] = NS_PER_S
        devices.batch_ns[node] = ROWS * NS_PER_S
    return devices


def stream(devices: DeviceTable, n_rows: int, per_batch: int) -> list[Observed]:
    """Return batches of `per_batch` 60-row messages, one message an EVSE and minute."""
    rng = np.random.default_rng(1)
    n_evses = devices.n_evses
    slots = tuple(CHANNEL_ID[name] for name in CHANNELS)
    level = np.array([230.0, 230.0, 230.0, 16.0, 16.0, 16.0, 11_040.0, 16.0, 41.0, 6.0])
    out = []
    sent = np.zeros(n_evses, np.int64)
    message = 0
    while message * ROWS < n_rows:
        numbers = np.arange(message, message + per_batch)
        evse = numbers % n_evses
        order = np.argsort(evse, kind="stable")
        rows = ReadingBatch.empty(per_batch * ROWS, slots)
        rows.evse[:] = np.repeat(evse[order], ROWS)
        minute = numbers // n_evses
        rows.time_ns[:] = (
            T0_NS + minute[order][:, None] * 60 * NS_PER_S + np.arange(ROWS) * NS_PER_S
        ).ravel()
        rows.order[:] = np.repeat(numbers[order], ROWS)
        rows.effect_ns[:] = rows.time_ns
        rows.state[:] = b.IN_TRANSACTION | b.CHARGING | b.STATE_KNOWN
        rows.reg_mwh[:] = (rows.time_ns - T0_NS) // NS_PER_S * 3067
        rows.values[:] = level[:, None] + rng.normal(0.0, 0.3, rows.values.shape) * (level[:, None] > 16.5)
        effect = T0_NS + (message // n_evses + 1) * 60 * NS_PER_S
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


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--evses", type=int, default=100)
    parser.add_argument("--messages", type=int, default=100, help="60-row messages in a batch")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    devices = fleet(args.evses)
    batches = stream(devices, args.rows, args.messages)
    figures = {name: measure(name, batches) for name in plugins.names("models.detectors")}
    print(f"{'detector':32}{'ns/row':>9}{'bytes/EVSE':>12}{'emitted':>9}")
    for name, (cost, size, emitted) in figures.items():
        print(f"{name:32}{cost:9.2f}{size / args.evses:12.0f}{emitted:9d}")
    total = sum(cost for cost, _, _ in figures.values())
    size = sum(size for _, size, _ in figures.values())
    print(f"{'all':32}{total:9.2f}{size / args.evses:12.0f}")
    if args.json:
        print(
            json.dumps(
                {"ns_per_row": round(total, 2), "bytes_per_evse": size / args.evses, "rows": args.rows}
            )
        )


if __name__ == "__main__":
    main()
