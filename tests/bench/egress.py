"""How fast results leave: points to InfluxDB (influxd 1.6 behind nginx), rows to a SQLite ledger.

Run by hand: ``python -m tests.bench.egress``. One warm-up and five timed runs; the median counts. Counts in
both stores must equal what was sent.
"""

from __future__ import annotations

import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from connectors.influx import InfluxSettings, InfluxWriter
from connectors.influx_server import InfluxServer
from connectors.ledger import Ledger
from connectors.ledger_reader import LedgerReader
from models.outputs import IntervalRow
from models.points import PointEncoder
from models.secret import Secret

from .lineprotocol import fleet, readings

_EVSES = 1_000


def rate(count: int, runs: list[float]) -> dict[str, object]:
    """Return the median rate and the raw runs."""
    return {"per_s": round(count / statistics.median(runs)), "runs_s": [round(r, 3) for r in runs]}


def timed(once: Callable[[int], None]) -> list[float]:
    """Return the seconds of five runs after one to warm up."""
    runs = []
    for i in range(6):
        start = time.perf_counter()
        once(i)
        runs.append(time.perf_counter() - start)
    return runs[1:]


def influx(folder: Path, points: int, gzip: bool) -> dict[str, object]:
    """Write `points` ten-field readings a run."""
    encoder = PointEncoder(fleet(_EVSES))
    rows = readings(points, _EVSES)
    with InfluxServer(folder) as server:
        writer = InfluxWriter(InfluxSettings(server.url, "ev", Secret(server.token), gzip=gzip))

        def once(run: int) -> None:
            rows.time_ns += 86_400_000_000_000
            if writer.write(encoder.readings(rows)):
                raise SystemExit("InfluxDB refused points")

        runs = timed(once)
        stored = server.query('SELECT count("power_w") AS "n" FROM "ev_reading"')[0]["n"]
        if stored != 6 * points:
            raise SystemExit(f"InfluxDB holds {stored} points, {6 * points} were written")
    return {"what": f"influx points, gzip {gzip}", **rate(points, runs)}


def ledger(folder: Path, evses: int) -> dict[str, object]:
    """Store one quarter hour of `evses` EVSEs a run, in one transaction."""
    opened = Ledger(f"sqlite:///{folder / 'ledger.sqlite'}")

    def once(run: int) -> None:
        rows = [
            IntervalRow(
                site=f"site-{e // 40}", station=f"station-{e // 2}", evse=e % 2 + 1, start_ms=run * 900_000,
                energy_mwh=e, quality="measured", revision=1,
            )
            for e in range(evses)
        ]  # fmt: skip
        opened.apply("intervals", [(0, msgspec.msgpack.encode(rows))])

    runs = timed(once)
    opened.close()
    reader = LedgerReader(f"sqlite:///{folder / 'ledger.sqlite'}")
    stored = reader.counts()["intervals"]
    reader.close()
    if stored != 6 * evses:
        raise SystemExit(f"the ledger holds {stored} intervals, {6 * evses} were stored")
    return {"what": "ledger intervals", **rate(evses, runs)}


def main() -> None:
    """Measure and print one JSON line each."""
    with tempfile.TemporaryDirectory() as folder:
        for gzip in (False, True):
            print(json.dumps(influx(Path(folder) / f"influx-{gzip}", 50_000, gzip)))
        print(json.dumps(ledger(Path(folder), 10_000)))


if __name__ == "__main__":
    main()
