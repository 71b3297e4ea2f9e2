"""The table of what detectors cost names them all and adds them up."""

from __future__ import annotations

import numpy as np

from models import plugins
from models.channels import CHANNEL_ID
from pipeline import bench_detectors as bench


def test_streams_are_healthy_rows_of_ten_channels_and_of_all() -> None:
    few, every = (bench.stream(4, 1_200, 4, everything=everything) for everything in (False, True))
    assert [len(seen.rows) for seen in few] == [240] * 5
    assert few[0].rows.values.shape == (10, 240)
    assert np.isfinite(few[0].rows.values).all()
    rows = every[0].rows
    volts = rows.column(CHANNEL_ID["Voltage"])
    assert volts is not None
    assert (np.isfinite(volts) == (rows.evse % 2 == 1)).all()
    assert (np.diff(few[0].rows.time_ns[few[0].rows.evse == 0]) == 1_000_000_000).all()


def test_a_detector_is_measured_on_the_second_half() -> None:
    cost, size, emitted = bench.measure("over_current", bench.stream(4, 4_800, 4, everything=False))
    assert 0 < cost < 1e6
    assert size > 0
    assert emitted == 0


def test_the_table_names_every_detector_and_adds_up() -> None:
    row = {"ns_per_row": 1.5, "ns_per_row_all_channels": 2.5, "bytes_per_evse": 32.0, "emitted": 0}
    names = plugins.names("models.detectors")
    figures = {"detectors": dict.fromkeys(names, row), "total": {k: v * len(names) for k, v in row.items()}}
    text = bench.lines(figures)
    assert [line.split()[0] for line in text[1:-1]] == names
    assert text[-1].split()[:2] == ["all", str(len(names))]
