"""Score every series of a folder laid out like the Numenta Anomaly Benchmark; its scorer reads the output.

DIR holds ``data/<category>/<series>.csv`` (or the categories themselves) with columns ``timestamp`` and
``value``. For each, OUT gets ``<category>/<series>.csv`` with ``timestamp``, ``value`` and ``anomaly_score``.
Nothing but the values is read, row by row: neither labels nor the range or length of a series.
"""

from __future__ import annotations

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``chargestream score nab``."""
    parser.add_argument("--data", metavar="DIR", type=Path, required=True, help="folder of the series")
    parser.add_argument("--out", metavar="OUT", type=Path, required=True, help="folder for the scores")


def run(args: argparse.Namespace) -> int:
    """Score, write, and print points per second."""
    import time

    import numpy as np

    from models.learned.series import SeriesDetector

    from . import _tables

    SeriesDetector.new().score(np.zeros(2000))  # compiled before the clock runs
    points, seconds, files = 0, 0.0, _tables.csv_files(args.data)
    for path in files:
        head, rows = _tables.read_table(path, ",")
        values = _tables.numbers(path, head, rows, "value")
        if "timestamp" not in head:
            _tables.numbers(path, head, rows, "timestamp")
        began = time.process_time()
        scores = SeriesDetector.new().score(values)
        seconds += time.process_time() - began
        points += len(values)
        stamp, value = head.index("timestamp"), head.index("value")
        lines = ((row[stamp], row[value], s) for row, s in zip(rows, _tables.exact(scores), strict=True))
        _tables.write_table(
            _tables.place(path, args.data, args.out), ("timestamp", "value", "anomaly_score"), lines
        )
    print(f"{len(files)} series, {points} points, {points / seconds:.0f} points/s of one core; {args.out}")
    return 0
