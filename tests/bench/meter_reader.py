"""How fast native meter JSON becomes columns, against bare msgspec decoding of the same bytes.

Run by hand: ``python -m tests.bench.meter_reader``. One warm-up and five timed runs each; the median
counts. The checksum of the register column must equal what was generated.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable

import msgspec
import numpy as np

from models.meter_reader import MeterReader

CHANNELS = (
    "Voltage@L1-N",
    "Voltage@L2-N",
    "Voltage@L3-N",
    "Current.Import@L1",
    "Current.Import@L2",
    "Current.Import@L3",
    "Power.Active.Import",
    "Energy.Active.Import.Register",
    "Temperature/Cable",
    "x.CP.V",
)
T0 = 1_781_069_406_907


class _Series(msgspec.Struct):
    evse: int
    t0: int
    ch: list[str]
    rows: list[list[float | None]]
    st: str = ""


class _Meter(msgspec.Struct):
    series: list[_Series]
    v: int = 1
    boot: int = -1
    seq: int = -1


def messages(count: int, rows: int, evses: int, seed: int = 7) -> tuple[list[bytes], int]:
    """Return `count` messages of `rows` readings and the sum of their registers in mWh."""
    rng = np.random.default_rng(seed)
    out, total = [], 0
    for m in range(count):
        lines = []
        for r in range(rows):
            volts = 230 + rng.normal(0, 2, 3)
            amps = rng.uniform(0, 32, 3)
            reg = 6_847_430 + 17 * m + r
            total += reg * 1000
            lines.append(
                f"[{r * 1000},{volts[0]:.1f},{volts[1]:.1f},{volts[2]:.1f},{amps[0]:.2f},{amps[1]:.2f},"
                f"{amps[2]:.2f},{float(volts @ amps):.0f},{reg},{rng.uniform(10, 50):.1f},"
                f"{rng.normal(6, 0.03):.2f}]"
            )
        names = ",".join(f'"{c}"' for c in CHANNELS)
        out.append(
            f'{{"v":1,"boot":43,"seq":{m + 1},"series":[{{"st":"DG01-{m % evses:04d}","evse":1,"conn":1,'
            f'"t0":{T0 + m},"ch":[{names}],"rows":[{",".join(lines)}]}}]}}'.encode()
        )
    return out, total


def _decode_all(decoder: msgspec.json.Decoder[_Meter], batch: list[bytes]) -> None:
    for payload in batch:  # decoded and dropped, as a consumer that makes columns would
        decoder.decode(payload)


def timed(run: Callable[[], object]) -> float:
    """Return the median of five runs in seconds, after one warm-up."""
    run()
    took = []
    for _ in range(5):
        began = time.perf_counter()
        run()
        took.append(time.perf_counter() - began)
    return statistics.median(took)


def measure(count: int, rows: int, evses: int) -> dict[str, float]:
    """Return rates for `count` messages of `rows` readings."""
    batch, total = messages(count, rows, evses)
    payloads = b"".join(batch)
    end = np.cumsum([len(p) for p in batch])
    start = np.concatenate([[0], end[:-1]])
    topic = np.zeros(count, np.int32)
    reader = MeterReader()
    for e in range(evses):
        reader.learn(0, f"DG01-{e:04d}", 1, e)
    columns, _, status = reader.read(payloads, start, end, topic)
    if status.any() or int(columns.reg_mwh.sum()) != total:
        raise SystemExit("the columns are not what was generated")
    decoder = msgspec.json.Decoder(_Meter)
    fast = timed(lambda: reader.read(payloads, start, end, topic))
    bare = timed(lambda: _decode_all(decoder, batch))
    return {
        "rows_per_message": rows,
        "messages": count,
        "evses": evses,
        "bytes": len(payloads),
        "reader_rows_per_s": round(count * rows / fast),
        "msgspec_rows_per_s": round(count * rows / bare),
        "share": round(bare / fast, 2),
        "reader_mb_per_s": round(len(payloads) / fast / 1e6),
    }


def main() -> None:
    """Measure both shapes and print one JSON line each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=120_000, help="readings per shape")
    parser.add_argument("--evses", type=int, default=1000)
    args = parser.parse_args()
    for per_message in (60, 1):
        print(json.dumps(measure(args.rows // per_message, per_message, args.evses)))


if __name__ == "__main__":
    main()
