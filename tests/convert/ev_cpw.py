"""One AC session of each of eight cars, a reading a minute (ev/ev-cpw), as a native meter log.

Each car is a station of its own. The profile has no register: here it is the running integral of the mean
real power, in exact mWh (a mean of w W over a minute is w * 50 / 3 mWh, rounded down once, over
the sum). A row of the profile tells of the minute that begins at its time; the reading is taken at its
end. Before the first and after the last minute the station says that it is not in use.

The meter sits behind the contactor: where that opened or closed within a minute, the minute's mean
voltage mixes the supply with 0 V and tells of neither. It is left out (seven minutes of the Volvo, one of
each of six others); what the meter says of the powers and of whole minutes stays as it is.
"""

from __future__ import annotations

import argparse
import csv
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path

from ._native_log import NativeLog, run

SOURCE = Path("ev/ev-cpw")
#: All profiles were taken between June and September: Pacific daylight time.
PACIFIC = timezone(timedelta(hours=-7))
MINUTE_MS = 60_000
CHANNELS = [
    "Voltage@L1-N",
    "Current.Import@L1",
    "Power.Active.Import",
    "Power.Reactive.Import",
    "Frequency",
    "Energy.Active.Import.Register",
]


def nominal_v(rows: list[dict[str, str]]) -> float:
    """Return the nearer of the two supplies, 208 or 240 V."""
    volts = sorted(float(row["Voltage RMS Avg (V)"]) for row in rows if row["Voltage RMS Avg (V)"])
    return 208.0 if abs(volts[len(volts) // 2] - 208) < abs(volts[len(volts) // 2] - 240) else 240.0


def voltage_v(row: dict[str, str], u_n_v: float) -> float | None:
    """Return the minute's mean voltage; None where the contactor moved in it (5 % of Un is no voltage)."""
    low, mean = _value(row["Voltage RMS Min (V)"]), _value(row["Voltage RMS Avg (V)"])
    mixed = low is not None and mean is not None and low < 0.05 * u_n_v < mean
    return None if mixed else mean


def add_car(log: NativeLog, folder: Path) -> int:
    """Add one car's session and return its energy in mWh."""
    with (folder / "profile_1min.csv").open(newline="") as lines:
        rows = list(csv.DictReader(lines))
    node = f"EVCPW/{folder.name}"
    times = [_ms(row["Date Time"]) for row in rows]
    begin, end = times[0], times[-1] + MINUTE_MS
    u_n_v = nominal_v(rows)
    inventory = {
        "evse": 1,
        "u_n_v": u_n_v,
        "f_n_hz": 60,
        "phases": 1,
        "p_max_w": 7700,
        "meter": {"serial": f"CPW-{folder.name}", "resolution_wh": 0.001},
        "conns": [{"conn": 1, "type": "IEC_62196_T1", "max_a": 32}],
    }
    birth = {"cid": 1, "model": folder.name, "vendor": "EV-CPW", "hb_s": 300, "sample_s": 60, "batch_s": 60}
    log.add(begin - 2, node, "conn", online=True, evses=[inventory], **birth)
    log.status(begin - 1, node, 1, "Occupied")
    tx_id = f"{folder.name}-{begin}"
    log.tx(
        begin, node, 1, tx_id, "Started", 0, seqNo=0, triggerReason="CablePluggedIn", chargingState="Charging"
    )
    sum_w = 0
    for t_ms, row in zip(times, rows, strict=True):
        power_kw = row["Real Power Avg (kW)"]
        sum_w += int(Decimal(power_kw) * 1000) if power_kw else 0
        values = [
            voltage_v(row, u_n_v),
            _value(row["Current RMS Avg (A)"]),
            _value(power_kw, 1000),
            _value(row["Reactive Power Avg (kVAR)"], 1000),
            _value(row["Frequency Avg (Hz)"]),
            register_mwh(sum_w) / 1000,
        ]
        log.meter(t_ms + MINUTE_MS, node, 1, CHANNELS, values, tx_id)
        if (t_ms // MINUTE_MS) % 5 == 0:
            log.add(t_ms + MINUTE_MS, node, "hb", t=t_ms + MINUTE_MS, uptime_s=(t_ms - begin) // 1000)
    energy = register_mwh(sum_w)
    log.tx(
        end + 1, node, 1, tx_id, "Ended", energy, seqNo=1, triggerReason="EVDeparted", stoppedReason="Local"
    )
    log.status(end + 2, node, 1, "Unavailable")
    return energy


def register_mwh(sum_w: int) -> int:
    """Return the energy of minutes whose mean powers add up to `sum_w`, in mWh rounded down."""
    return sum_w * 50 // 3


def _value(text: str, scale: int = 1) -> float | None:
    return float(Decimal(text) * scale) if text else None


def _ms(text: str) -> int:
    at = datetime.strptime(text, "%Y/%m/%d %H:%M:%S").replace(tzinfo=PACIFIC)
    if not 6 <= at.month <= 9:
        raise ValueError(f"{text}: the fixed offset is right for June to September only")
    return int(at.timestamp() * 1000)


def convert(data: Path, out: Path) -> int:
    """Write the log of all cars and return the number of messages."""
    log = NativeLog()
    for profile in sorted((data / SOURCE).glob("*/profile_1min.csv")):
        add_car(log, profile.parent)
    return log.write(out)


def _run(args: argparse.Namespace) -> int:
    return convert(args.data, args.out)


if __name__ == "__main__":
    run(__doc__, _run)
