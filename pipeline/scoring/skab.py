"""Score every run of a folder laid out like the Skoltech Anomaly Benchmark; its scorer reads the output.

DIR holds ``data/<group>/<run>.csv`` (or the groups themselves): ``;`` between columns, ``datetime``,
channels, and the labels ``anomaly`` and ``changepoint``, which are not read. The first 400 rows of a run say
what is normal. For each, OUT gets ``<group>/<run>.csv`` with ``datetime`` and ``anomaly_score`` for every
row; 0.5 and above is an alarm.
"""

from __future__ import annotations

import argparse
from pathlib import Path

_LABELS = {"anomaly", "changepoint"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``chargestream score skab``."""
    parser.add_argument("--data", metavar="DIR", type=Path, required=True, help="folder of the runs")
    parser.add_argument("--out", metavar="OUT", type=Path, required=True, help="folder for the scores")
    parser.add_argument(
        "--train", metavar="ROWS", type=int, default=400, help="leading rows that are normal (400)"
    )


def run(args: argparse.Namespace) -> int:
    """Learn, score, write, and print rows per second."""
    import time

    import numpy as np

    from models.errors import ConfigError
    from models.learned.multichannel import ChannelLevels

    from . import _tables

    ChannelLevels.learn(np.zeros((400, 2))).score(np.zeros((2, 2)))  # compiled before the clock runs
    scored, seconds, files = 0, 0.0, _tables.csv_files(args.data)
    for path in files:
        head, rows = _tables.read_table(path, ";")
        if "datetime" not in head:
            _tables.numbers(path, head, rows, "datetime")
        channels = [name for name in head if name != "datetime" and name not in _LABELS]
        values = np.column_stack([_tables.numbers(path, head, rows, name) for name in channels])
        try:
            levels = ChannelLevels.learn(values[: args.train])
        except ConfigError as error:
            raise ConfigError(f"{path}: {error}") from error
        began = time.process_time()
        late = levels.score(values[args.train :])
        seconds += time.process_time() - began
        scored += len(late)
        scores = np.concatenate([np.zeros(len(values) - len(late)), late])
        stamp = head.index("datetime")
        lines = ((row[stamp], s) for row, s in zip(rows, _tables.exact(scores), strict=True))
        _tables.write_table(_tables.place(path, args.data, args.out), ("datetime", "anomaly_score"), lines)
    speed = scored / seconds if seconds else 0.0
    print(
        f"{len(files)} runs, {scored} rows after the first {args.train}, {speed:.0f} rows/s of one core;"
        f" {args.out}"
    )
    return 0
