"""The rules of the findings catalogue as plain loops over a whole log."""

from __future__ import annotations

from collections import defaultdict
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from connectors.simulator import Fleet, SimMessage

from .simulated import Columns, columns, decode, items, kind_of

F64 = NDArray[np.float64]
_PHASES = ("L1", "L2", "L3")


class Log:
    """A finished run: readings per EVSE, items, births, heartbeats."""

    def __init__(self, fleet: Fleet, messages: list[SimMessage]) -> None:
        self.fleet, self.messages = fleet, messages
        self.readings = columns(messages)
        self.tx = items(messages, "tx")
        self.status = items(messages, "status")
        self.events = items(messages, "event")

    def of(self, station: str, evse: int = 1) -> Columns:
        """Return the readings of an EVSE."""
        return self.readings[station, evse]


def lasting(bad: NDArray[np.bool_], t_ms: F64, least_ms: float, samples: int = 2) -> bool:
    """Return whether `bad` holds over `samples` neighbours that span `least_ms`."""
    begin = -1
    for i, on in enumerate(bad.tolist()):
        if not on:
            begin = -1
            continue
        begin = i if begin < 0 else begin
        if i - begin + 1 >= samples and t_ms[i] - t_ms[begin] >= least_ms:
            return True
    return False


def means(values: F64, t_ms: F64, window_ms: int, least: int) -> list[float]:
    """Return the means over clock-aligned windows with at least `least` samples."""
    groups: dict[int, list[float]] = defaultdict(list)
    for value, t in zip(values.tolist(), t_ms.tolist(), strict=True):
        if value == value:
            groups[int(t) // window_ms].append(value)
    return [sum(group) / len(group) for group in groups.values() if len(group) >= least]


def raised(rows: Columns, *, dc: bool, sample_s: float) -> set[str]:
    """Return the codes whose channel rules one EVSE's readings break."""
    t, out = rows["t"], set()
    volts = [rows[name] for p in _PHASES if (name := f"Voltage@{p}-N") in rows]
    for phase in volts:
        ten, one = means(phase, t, 600_000, 3), means(phase, t, 60_000, 2)
        if any(m < 207 for m in ten) or any(m < 195.5 for m in one):
            out.add("under_voltage")
        if any(m > 253 for m in ten) or any(m > 264.5 for m in one):
            out.add("over_voltage")
        low = np.flatnonzero(phase < 207)
        if sample_s <= 20 and any((phase[(t > t[i]) & (t <= t[i] + 60_000)] >= 207).any() for i in low):
            out.add("voltage_dip")
    if len(volts) == 3:
        windows = [means(phase, t, 600_000, 3) for phase in volts]
        turn = np.exp(2j * np.pi / 3)
        for u1, u2, u3 in zip(*windows, strict=True):
            positive, negative = u1 + u2 + u3, abs(u1 + u2 * turn + u3 * turn**2)
            if negative > 0.02 * positive:
                out.add("voltage_unbalance")
    if "Frequency" in rows:
        hertz = rows["Frequency"]
        if any(not 49.5 <= m <= 50.5 for m in means(hertz, t, 600_000, 3)) or lasting(
            (hertz < 47) | (hertz > 52), t, 0
        ):
            out.add("frequency_deviation")
    out |= _load_rules(rows, t, dc=dc) | _sensor_rules(rows, t, dc=dc) | _meter_rules(rows, t)
    return out


def _currents(rows: Columns, *, dc: bool) -> list[F64]:
    names = ["Current.Import"] if dc else [f"Current.Import@{p}" for p in _PHASES]
    return [rows[name] for name in names if name in rows]


def _load_rules(rows: Columns, t: F64, *, dc: bool) -> set[str]:
    out, amps = set(), _currents(rows, dc=dc)
    offered, power, in_tx = rows["Current.Offered"], rows["Power.Active.Import"], rows["tx"] == 1
    for phase in amps:
        if lasting(in_tx & (phase > offered * 1.10 + 0.5), t, 7_000):
            out.add("over_current")
    if lasting(~in_tx & (power > 100), t, 60_000):
        out.add("contactor_welded")
    if dc and lasting(~in_tx & (rows["x.Output.V"] > 60), t, 60_000):
        out.add("contactor_welded")
    top = np.max(amps, axis=0)
    pilot = rows.get("x.CP.V")
    if pilot is not None and lasting((pilot < 7.5) & (top < 1) & (offered >= 6), t, 60_000):
        out.add("contactor_stuck_open")
    volts = [rows["Voltage"]] if dc else [rows[n] for p in _PHASES if (n := f"Voltage@{p}-N") in rows]
    factor = rows["Power.Factor"] if "Power.Factor" in rows else np.full(len(t), 0.99 if not dc else 1.0)
    apparent = np.sum([v * a for v, a in zip(volts, amps, strict=True)], axis=0) * factor
    with np.errstate(divide="ignore", invalid="ignore"):
        wrong = (top > (10 if dc else 6)) & (np.abs(power / apparent - 1) > 0.08)
    if lasting(wrong, t, 600_000):
        out.add("power_mismatch")
    if len(amps) == 3:
        number = np.cumsum(np.diff(rows["tx"], prepend=0) > 0)
        mean, least = np.mean(amps, axis=0), np.min(amps, axis=0)
        for tx in range(1, int(number[-1]) + 1):
            of_tx = (number == tx) & in_tx
            seen = np.maximum.accumulate(least[of_tx] > 3)
            is_open = seen & (mean[of_tx] > 3) & (least[of_tx] < 0.1 * mean[of_tx])
            if lasting(is_open, t[of_tx], 60_000):
                out.add("phase_open")
    return out


def _sensor_rules(rows: Columns, t: F64, *, dc: bool) -> set[str]:
    out = set()
    for name in ("Temperature/Cable", "Temperature/Outlet"):
        if name in rows and lasting(rows[name] >= (90 if dc else 65), t, 30_000):
            out.add("connector_over_temperature")
    if "Temperature/Body" in rows and lasting(rows["Temperature/Body"] >= 70, t, 60_000):
        out.add("cabinet_over_temperature")
    pilot = rows.get("x.CP.V")
    if pilot is not None:
        in_c = (rows["Power.Active.Import"] > 100) & (pilot < 7.5)
        if lasting(in_c & ((pilot < 5.47) | (pilot > 6.53)), t, 0):
            out.add("pilot_out_of_band")
        if in_c.sum() > 20 and float(pilot[in_c].std()) >= 0.08:
            out.add("pilot_jitter")
    if "x.CP.Low.V" in rows and lasting(rows["x.CP.Low.V"] > -10, t, 5_000):
        out.add("diode_fault")
    if "x.Residual.DC" in rows and (
        (rows["x.Residual.DC"] >= 6).any() or (rows["x.Residual.AC"] >= 30).any()
    ):
        out.add("residual_current_trip")
    if "x.Residual.DC" in rows and lasting(
        (rows["x.Residual.DC"] >= 3) | (rows["x.Residual.AC"] >= 15), t, 600_000
    ):
        out.add("residual_current_rising")
    if "x.Isolation.R" in rows and lasting(rows["x.Isolation.R"] < 0.1 * rows["x.Output.V"], t, 0):
        out.add("isolation_low")
    if "x.Isolation.C" in rows and (rows["x.Isolation.C"] > 5).any():
        out.add("capacitance_high")
    if "x.Supply12V" in rows and lasting(np.abs(rows["x.Supply12V"] - 12) > 1.2, t, 60_000):
        out.add("aux_supply")
    if "x.RSSI" in rows and any(m < -90 for m in means(rows["x.RSSI"], t, 1_800_000, 3)):
        out.add("weak_signal")
    return out


def _meter_rules(rows: Columns, t: F64) -> set[str]:
    out = set()
    register, power = rows["Energy.Active.Import.Register"], rows["Power.Active.Import"]
    steps = np.diff(register)
    if (steps < -2).any():
        out.add("register_rollback")
    wh = np.concatenate([[0.0], np.cumsum(0.5 * (power[1:] + power[:-1]) * np.diff(t) / 3.6e6)])
    ramp_wh = float(power.max()) * float(np.median(np.diff(t))) / 3.6e6 / 2
    flat_since = 0
    for i in range(1, len(t)):
        flat_since = flat_since if register[i] == register[i - 1] else i
        if wh[i] - wh[flat_since] > max(50.0, 20.0, ramp_wh):
            out.add("register_stuck")
    gone = register[-1] - register[0]
    if wh[-1] > 400 and abs(gone - wh[-1]) > 200 and abs(gone / wh[-1] - 1) >= 0.05:
        out.add("register_mismatch")
    for name in ("Voltage@L1-N", "Voltage@L1-N/Inlet"):
        moved = power.max() > 0 and _frozen(rows.get(name), power, t, 1_800_000)
        if moved:
            out.add("value_frozen")
    if _frozen(rows.get("Temperature/Cable"), power**2, t, 3_600_000):
        out.add("value_frozen")
    return out


def _frozen(values: F64 | None, load: F64, t: F64, span_ms: float) -> bool:
    if values is None:
        return False
    begin = 0
    for i in range(1, len(t)):
        if values[i] != values[i - 1]:
            begin = i
        elif t[i] - t[begin] >= span_ms and i - begin >= 20:
            part = load[begin : i + 1]
            if part.max() > 0 and part.max() - part.min() > 0.2 * part.max():
                return True
    return False


def node_raised(log: Log, node: int) -> set[str]:
    """Return the communication codes that a node's messages break, judged by arrival."""
    config = log.fleet.topology.nodes[node]
    mine = [m for m in log.messages if m.node == node]
    out = set()
    if any(m.will for m in mine) or any(b.t_ms - a.t_ms > 3000 * config.hb_s for a, b in pairwise(mine)):
        out.add("offline")
    births = [m for m in mine if kind_of(m) == "conn" and not m.will]
    times = [m.t_ms for m in births]
    if any(b - a <= 3_600_000 for a, b in zip(times, times[5:], strict=False)):
        out.add("flapping")
    boots = [(m.t_ms, decode(m).boot) for m in births]
    if any(b[1] - a[1] >= 4 and b[0] - a[0] <= 3_600_000 for a in boots for b in boots):
        out.add("reboot_loop")
    numbers: dict[int, set[int]] = defaultdict(set)
    for m in mine:
        if m.seq > 0:
            numbers[m.boot].add(m.seq)
    lost = sum(max(seen) - len(seen) for seen in numbers.values())
    if lost >= 5 and lost >= 0.01 * sum(len(seen) for seen in numbers.values()):
        out.add("message_loss")
    skews = [m.t_ms - decode(m).t for m in mine if kind_of(m) == "hb"]
    if any(abs(s) > 300_000 for s in skews) or any(
        all(abs(s) > 60_000 for s in skews[i : i + 3]) for i in range(len(skews) - 2)
    ):
        out.add("clock_error")
    return out
