"""What the meters show: noise, quantisation and the channels of each station.

One row of `CHANNELS` per channel: decimals kept, and a function of the plant, the EVSE rows and one
standard normal number a row. Noise levels are those of class B meters and ordinary sensors.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from .plant import F64, I64, Plant
from .topology import Index, Topology

Measure = Callable[[Plant, Index, F64], F64]


def _voltage(phase: int, noise_v: float = 0.15) -> Measure:
    def measure(p: Plant, e: Index, z: F64) -> F64:
        volts: F64 = p.v_v[phase, e] + noise_v * z * p.supply[phase, e]
        return volts

    return measure


def _current(phase: int) -> Measure:
    def measure(p: Plant, e: Index, z: F64) -> F64:
        amps: F64 = p.i_a[phase, e]
        shown: F64 = np.where(amps > 0, np.maximum(0.0, amps + 0.03 * z), 0.0)
        return shown

    return measure


def _power(p: Plant, e: Index, z: F64) -> F64:
    watts: F64 = p.power_w[e] * (1.0 + 0.0008 * z)
    return watts


def _pilot(p: Plant, e: Index, z: F64) -> F64:
    level = np.where(p.closed[e], 6.0, np.where(p.plugged[e], 9.0, 12.0))
    volts: F64 = level + np.where(p.closed[e], 0.035, 0.04) * np.clip(z, -3.5, 3.5)
    return volts


def _pilot_low(p: Plant, e: Index, z: F64) -> F64:
    return np.where(p.plugged[e] & (p.offered_a[e] > 0), -11.98 + 0.05 * z, np.nan)


def _proximity(p: Plant, e: Index, z: F64) -> F64:
    return np.where(p.plugged[e], 1.51, 4.46) + 0.015 * np.clip(z, -4, 4)


def _on_dc(value: Callable[[Plant, Index, F64], F64], otherwise: float) -> Measure:
    return lambda p, e, z: np.where(p.closed[e] & p.dc[e], value(p, e, z), otherwise)


def _output_v(p: Plant, e: Index, z: F64) -> F64:
    volts = p.dc_v[e]
    return np.where(volts > 0, volts + 0.2 * z, 0.0)


def _dc_current(p: Plant, e: Index, z: F64) -> F64:
    amps = p.dc_a[e]
    return np.where(amps > 0, np.maximum(0.0, amps + 0.1 * z), 0.0)


def _ev_voltage(p: Plant, e: Index, z: F64) -> F64:
    return p.dc_v[e] - p.cable_ohm[e] * p.faulty.cable_scale[e] * p.dc_a[e] + 0.2 * z


def _load(p: Plant, e: Index) -> F64:
    share: F64 = np.minimum(1.0, p.set_a[e] / p.max_a[e])
    return share


#: channel -> (decimals, measure)
CHANNELS: Final[dict[str, tuple[int, Measure]]] = {
    "Voltage@L1-N": (1, _voltage(0)),
    "Voltage@L2-N": (1, _voltage(1)),
    "Voltage@L3-N": (1, _voltage(2)),
    "Current.Import@L1": (2, _current(0)),
    "Current.Import@L2": (2, _current(1)),
    "Current.Import@L3": (2, _current(2)),
    "Power.Active.Import": (0, _power),
    "Energy.Active.Import.Register": (3, lambda p, e, z: p.register_wh(e)),
    "Current.Offered": (1, lambda p, e, z: p.offered_a[e]),
    "Temperature/Cable": (1, lambda p, e, z: p.plug_c[e] + 0.12 * z),
    "Temperature/Outlet": (1, lambda p, e, z: p.plug_c[e] + 0.7 + 0.12 * z),
    "Temperature/Body": (1, lambda p, e, z: p.body_c[e] + 0.1 * z),
    "x.CP.V": (2, _pilot),
    "x.CP.Low.V": (2, _pilot_low),
    "x.PP.V": (2, _proximity),
    "x.Residual.DC": (2, lambda p, e, z: 0.40 + 0.05 * z),
    "x.Residual.AC": (2, lambda p, e, z: 0.55 + 1.2 * _load(p, e) + 0.12 * z),
    "Frequency": (3, lambda p, e, z: p.freq_hz + p.faulty.f_add[p.site[e]] + 0.003 * z),
    "Power.Factor": (3, lambda p, e, z: np.where(p.set_a[e] > 0, p.factor[e] + 0.0008 * z, 1.0)),
    "x.Supply12V": (2, lambda p, e, z: 12.02 - 0.03 * p.closed[e] + 0.015 * z),
    "x.RSSI": (0, lambda p, e, z: -56.0 - (e * 7 % 17) + 1.5 * z),
    "x.Contactor.Cycles": (0, lambda p, e, z: p.cycles[e].astype(np.float64)),
    "Voltage": (1, _output_v),
    "Current.Import": (1, _dc_current),
    "SoC": (0, lambda p, e, z: np.where(p.plugged[e] & p.dc[e], np.floor(p.soc[e] * 100.0), np.nan)),
    "x.Output.V": (1, _output_v),
    "Voltage/EV": (1, _on_dc(_ev_voltage, 0.0)),
    "x.Isolation.R": (0, _on_dc(lambda p, e, z: 2500.0 + (e * 37 % 400) + 70.0 * z, np.nan)),
    "x.Isolation.C": (2, _on_dc(lambda p, e, z: 0.9 + (e % 11) * 0.1 + 0.02 * z, np.nan)),
    "Voltage@L1-N/Inlet": (1, _voltage(0, 0.25)),
    "Voltage@L2-N/Inlet": (1, _voltage(1, 0.25)),
    "Voltage@L3-N/Inlet": (1, _voltage(2, 0.25)),
}

#: Channels whose numbers are written without a decimal point.
WHOLE: Final = frozenset(name for name, (decimals, _) in CHANNELS.items() if decimals == 0)


@dataclass(slots=True)
class Group:
    """EVSEs that measure the same channels, and their rows that wait to be sent.

    Attributes
    ----------
    channels : tuple of str
    evses : ndarray, shape (m,)
        EVSE rows.
    values : ndarray, shape (m, n_channels, slots)
    time_ms : ndarray, shape (m, slots), int64
    count : ndarray, shape (m,)
        Rows waiting.
    """

    channels: tuple[str, ...]
    evses: Index
    values: F64
    time_ms: I64
    count: Index
    scale: F64
    whole: tuple[int, ...]  # columns sent as integers


@dataclass(slots=True)
class Sample:
    """One tick's sample of some EVSEs of a group, for faults to falsify before it is rounded."""

    channels: tuple[str, ...]
    evses: Index
    values: F64  # (n_channels, n)
    plant: Plant
    now_ms: int

    def at(self, name: str, evses: Index) -> tuple[F64, NDArray[np.bool_]] | None:
        """Return the column of a channel (a view) and the mask of `evses` in it; None if nothing is here."""
        if name not in self.channels:
            return None
        mask = np.isin(self.evses, evses)
        return (self.values[self.channels.index(name)], mask) if mask.any() else None


class Sampler:
    """Takes samples and keeps them until their node sends them."""

    def __init__(self, topology: Topology, slots: list[int]) -> None:
        stations = [topology.stations[row] for row in topology.evse_station]
        by_channels: dict[tuple[tuple[str, ...], int, bool], list[int]] = {}
        for evse, station in enumerate(stations):
            channels = station.fast + station.slow_channels
            whole_wh = station.resolution_wh % 1.0 == 0
            key = (channels, slots[topology.evse_node[evse]], whole_wh)
            by_channels.setdefault(key, []).append(evse)
        self.groups: list[Group] = []
        self.group_of = np.zeros(topology.n_evses, np.intp)
        self.place_of = np.zeros(topology.n_evses, np.intp)
        for (channels, n_slots, whole_wh), evses in by_channels.items():
            rows = np.array(evses, np.intp)
            self.group_of[rows] = len(self.groups)
            self.place_of[rows] = np.arange(len(rows))
            self.groups.append(
                Group(
                    channels,
                    rows,
                    np.zeros((len(rows), len(channels), n_slots)),
                    np.zeros((len(rows), n_slots), np.int64),
                    np.zeros(len(rows), np.intp),
                    np.array([[10.0 ** CHANNELS[name][0]] for name in channels]),
                    tuple(
                        column
                        for column, name in enumerate(channels)
                        if name in WHOLE or (whole_wh and name == "Energy.Active.Import.Register")
                    ),
                )
            )

    def take(self, group: Group, due: Index, plant: Plant, now_ms: int) -> Sample:
        """Return a sample of the EVSEs at the places `due` of a group, not rounded yet."""
        evses = group.evses if len(due) == len(group.evses) else group.evses[due]
        noise = plant.rng.standard_normal((len(group.channels), len(evses)))
        for row, name in enumerate(group.channels):
            noise[row] = CHANNELS[name][1](plant, evses, noise[row])
        return Sample(group.channels, evses, noise, plant, now_ms)

    def keep(self, group: Group, due: Index, sample: Sample, time_ms: I64) -> None:
        """Round a sample and put it behind the rows that wait."""
        rounded = np.rint(sample.values * group.scale) / group.scale
        slot = group.count[due]
        group.values[due, :, slot] = (rounded + 0.0).T
        group.time_ms[due, slot] = time_ms
        group.count[due] += 1
