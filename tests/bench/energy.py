"""How fast readings become quarter-hour energy and roll-ups, and how much state an EVSE needs: one core.

Run by hand: ``python -m tests.bench.energy``. Two streams: one reading a second in 60-row messages, and one
row a message, EVSE after EVSE. One warm-up and five timed runs; the median counts, the raw runs are printed
with it. The intervals are checked against the naive twin first.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from models.batch import METER, TICK, MessageColumns, ReadingBatch
from models.channels import CHANNEL_ID
from models.devices import DeviceTable
from models.energy import EnergyConfig, EnergyMeter, MemoryArchive
from models.outputs import IntervalRow
from models.rollups import RollupConfig, Rollups
from models.units import NS_PER_MS, NS_PER_S
from tests.naive import energy as naive

T0_NS = 1_790_000_100 * NS_PER_S
WIRE = (
    ("Voltage@L1-N", 230.0, 2.0),
    ("Voltage@L2-N", 230.0, 2.0),
    ("Voltage@L3-N", 230.0, 2.0),
    ("Current.Import@L1", 16.0, 0.3),
    ("Current.Import@L2", 16.0, 0.3),
    ("Current.Import@L3", 16.0, 0.3),
    ("Current.Offered", 16.0, 0.0),
    ("Power.Active.Import", 11_000.0, 200.0),
    ("Temperature/Cable", 40.0, 3.0),
)
Batch = tuple[ReadingBatch, MessageColumns]
Step = Callable[[ReadingBatch, MessageColumns], Any]


def fleet(n: int) -> DeviceTable:
    """Return n EVSEs of one station each."""
    devices = DeviceTable()
    for i in range(n):
        site = devices.site(f"site-{i // 20}")
        node = devices.node(site, f"cp-{i}")
        devices.evse(devices.station(site, f"cp-{i}", node), 1, node)
    return devices


def stream(n_rows: int, evses: int, per_message: int, batch_rows: int) -> list[Batch]:
    """Return n_rows readings, one a second of every EVSE, `per_message` of one EVSE in each message."""
    rng = np.random.default_rng(1)
    names = tuple(CHANNEL_ID[name] for name, *_ in WIRE)
    out = []
    order = 0
    rounds = max(1, batch_rows // (evses * per_message))
    seconds = 0
    while seconds * evses < n_rows:
        length = rounds * per_message
        n = length * evses
        rows = ReadingBatch.empty(n, names)
        at = seconds + np.arange(length)
        rows.evse[:] = np.repeat(np.arange(evses), length)
        rows.time_ns[:] = T0_NS + np.tile(at, evses) * NS_PER_S
        message = np.repeat(np.arange(rounds), per_message)  # of each second, within an EVSE
        ticks = per_message
        rows.order[:] = order + np.tile(message, evses) * (evses + ticks) + rows.evse
        rows.effect_ns[:] = T0_NS + np.tile((message + 1) * per_message + seconds, evses) * NS_PER_S
        rows.reg_mwh[:] = 10**9 + np.tile(at, evses) * 3055 + rows.evse
        for slot, (_, mean, spread) in enumerate(WIRE):
            rows.values[slot] = np.round(rng.normal(mean, spread, n), 1)
        out.append((rows, _messages(order, rounds, evses, ticks, seconds, per_message)))
        order += rounds * (evses + ticks)
        seconds += length
    return out


def _messages(
    order: int, rounds: int, evses: int, ticks: int, seconds: int, per_message: int
) -> MessageColumns:
    kinds = np.tile(np.array([METER] * evses + [TICK] * ticks, np.uint8), rounds)
    m = len(kinds)
    zero, narrow = np.zeros(m, np.int64), np.zeros(m, np.uint8)
    effect = T0_NS + (seconds + np.repeat(np.arange(1, rounds + 1), evses + ticks) * per_message) * NS_PER_S
    return MessageColumns(
        order + np.arange(m),
        zero,
        effect,
        np.zeros(m, np.int32),
        kinds,
        zero,
        zero,
        narrow,
        narrow,
        zero,
        effect,
    )


def check(intervals: list[IntervalRow], batches: list[Batch]) -> None:
    """Compare the intervals of the first EVSE with the naive twin's."""
    readings = [
        naive.Reading(t // NS_PER_MS, register)
        for rows, _ in batches
        for t, register in zip(
            rows.time_ns[rows.evse == 0].tolist(), rows.reg_mwh[rows.evse == 0].tolist(), strict=True
        )
    ]
    wanted = naive.intervals(naive.unwrap(readings, naive.Meter()))
    got = {
        row.start_ms // naive.QUARTER_MS: (row.energy_mwh, row.quality)
        for row in intervals
        if row.station == "cp-0"
    }
    if got != wanted:
        raise SystemExit(f"intervals {got} differ from the naive twin's {wanted}")


def measure(batches: list[Batch], run: Callable[[], Step]) -> list[float]:
    """Return ns per row of five runs after one to warm up."""
    n = sum(len(rows) for rows, _ in batches)
    out = []
    for _ in range(6):
        step = run()
        start = time.perf_counter()
        for rows, messages in batches:
            step(rows, messages)
        out.append((time.perf_counter() - start) / n * 1e9)
    return [round(ns, 1) for ns in out[1:]]


def energy(devices: DeviceTable) -> Callable[[], Step]:
    """Return what makes a fresh energy meter's step."""

    def fresh() -> Step:
        meter, none = EnergyMeter(EnergyConfig(), MemoryArchive()), ReadingBatch.empty()
        return lambda rows, messages: meter.process(rows, none, messages, devices)

    return fresh


def rolled(devices: DeviceTable) -> Callable[[], Step]:
    """Return what makes fresh roll-ups' step."""

    def fresh() -> Step:
        rollups = Rollups(RollupConfig())
        return lambda rows, messages: rollups.process(rows, messages, devices)

    return fresh


def main() -> None:
    """Measure and print one JSON line a stream."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--batch", type=int, default=60_000, help="readings in a batch")
    args = parser.parse_args()
    none = ReadingBatch.empty()
    for evses, per_message in ((100, 60), (1000, 1)):
        devices = fleet(evses)
        batches = stream(args.rows, evses, per_message, args.batch)
        config = EnergyConfig()
        meter, rollups = EnergyMeter(config, MemoryArchive()), Rollups(RollupConfig())
        intervals = [r for rows, messages in batches for r in meter.process(rows, none, messages, devices)]
        windows = [w for rows, messages in batches for w in rollups.process(rows, messages, devices)]
        check(intervals + meter.flush(devices), batches)

        runs = {"energy": measure(batches, energy(devices)), "rollups": measure(batches, rolled(devices))}
        figures: dict[str, Any] = {"rows": args.rows, "evses": evses, "rows_per_message": per_message}
        for name, ns in runs.items():
            figures |= {f"{name}_ns_per_row": statistics.median(ns), f"{name}_runs_ns": ns}
        figures |= {
            "intervals": len(intervals),
            "windows": sum(len(w.evse) for w in windows),
            "energy_bytes_per_evse": meter.nbytes() / evses,
            "rollups_bytes_per_evse": rollups.nbytes() / evses,
        }
        print(json.dumps(figures))


if __name__ == "__main__":
    main()
