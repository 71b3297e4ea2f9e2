"""How fast readings become line protocol: ten fields a row, one core.

Run by hand: ``python -m tests.bench.lineprotocol``. One warm-up and five timed runs; the median counts,
the raw runs are printed with it. The text is checked against the naive encoder first.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time

import numpy as np

from models.batch import ReadingBatch
from models.channels import CHANNEL_ID, CHANNELS
from models.devices import DeviceTable
from models.points import PointEncoder
from tests.naive import lineprotocol as naive

WIRE = (
    ("Voltage@L1-N", 230.0, 2.0, 1),
    ("Voltage@L2-N", 230.0, 2.0, 1),
    ("Voltage@L3-N", 230.0, 2.0, 1),
    ("Current.Import@L1", 16.0, 0.3, 2),
    ("Current.Import@L2", 16.0, 0.3, 2),
    ("Current.Import@L3", 16.0, 0.3, 2),
    ("Current.Offered", 16.0, 0.0, 0),
    ("Power.Active.Import", 11_000.0, 200.0, 0),
    ("Temperature/Cable", 40.0, 3.0, 1),
)


def fleet(evses: int) -> DeviceTable:
    """Return a table of `evses` EVSEs, two a station, twenty stations a site."""
    devices = DeviceTable()
    for i in range(evses):
        site = devices.site(f"site-{i // 40:04d}")
        name = f"station-{i // 2:05d}"
        node = devices.node(site, name)
        devices.evse(devices.station(site, name, node), i % 2 + 1, node)
    return devices


def readings(n: int, evses: int) -> ReadingBatch:
    """Return n readings of nine channels and a register."""
    rng = np.random.default_rng(1)
    rows = ReadingBatch.empty(n, tuple(CHANNEL_ID[name] for name, *_ in WIRE))
    rows.evse[:] = np.sort(rng.integers(0, evses, n))
    rows.time_ns[:] = 1_790_000_000_000_000_000 + np.arange(n) * 1_000_000_000
    rows.reg_mwh[:] = rng.integers(10**9, 10**10, n)
    for slot, (_, mean, spread, decimals) in enumerate(WIRE):
        rows.values[slot] = np.round(rng.normal(mean, spread, n), decimals)
    return rows


def expected(devices: DeviceTable, rows: ReadingBatch, i: int) -> str:
    """Return line i by the naive encoder."""
    site, station, evse = devices.names(int(rows.evse[i]))
    return naive.line(
        "ev_reading",
        [("evse", str(evse)), ("site", site), ("station", station)],
        [(c.field, float(rows.column(j)[i]), c.decimals) for j, c in enumerate(CHANNELS)],
        [("energy_import_wh", naive.wh(int(rows.reg_mwh[i])))],
        int(rows.time_ns[i]),
    )


def main() -> None:
    """Measure and print one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=60_000)
    parser.add_argument("--evses", type=int, default=1_000)
    args = parser.parse_args()
    devices, rows = fleet(args.evses), readings(args.rows, args.evses)
    encoder = PointEncoder(devices)
    lines = encoder.readings(rows).decode().splitlines(keepends=True)
    if any(lines[i] != expected(devices, rows, i) for i in range(0, args.rows, 97)):
        raise SystemExit("the kernel and the naive encoder differ")
    runs = []
    for _ in range(5):
        start = time.perf_counter()
        size = len(encoder.readings(rows))
        runs.append((time.perf_counter() - start) / args.rows * 1e9)
    figures = {"ns_per_row": round(statistics.median(runs), 1), "runs_ns": [round(r, 1) for r in runs]}
    print(json.dumps(figures | {"rows": args.rows, "evses": args.evses, "bytes_per_row": size / args.rows}))


if __name__ == "__main__":
    main()
