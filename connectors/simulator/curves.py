"""Car models and what they draw over their state of charge.

Typical cars of each class with the usual shape of charging curves: a plateau at the car's own limit, steps
down with rising state of charge, and a long taper above 80 %. Generic shapes, not measurements.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray


class Car(NamedTuple):
    """One car model.

    `dc_curve` lists (state of charge in percent, power in W), empty for cars without DC;
    `pack_v` is the pack's voltage at half charge; `share` its weight among arriving cars.
    """

    name: str
    battery_wh: float
    ac_phases: int
    ac_max_a: float
    pack_v: float
    dc_curve: tuple[tuple[float, float], ...]
    share: float


CARS: Final[tuple[Car, ...]] = (
    Car("hatch58", 58_000, 3, 16, 390, ((0, 95e3), (30, 100e3), (55, 78e3), (80, 50e3), (100, 8e3)), 0.22),
    Car("sedan75", 75_000, 3, 16, 370, ((0, 150e3), (20, 170e3), (45, 110e3), (80, 55e3), (100, 6e3)), 0.20),
    Car("city37", 37_000, 1, 32, 350, ((0, 40e3), (55, 47e3), (80, 28e3), (100, 4e3)), 0.12),
    Car("supermini52", 52_000, 3, 32, 360, ((0, 44e3), (35, 46e3), (70, 32e3), (100, 5e3)), 0.12),
    Car("suv77", 77_000, 3, 16, 760, ((0, 190e3), (25, 225e3), (55, 180e3), (80, 110e3), (100, 10e3)), 0.12),
    Car("estate64", 64_000, 2, 16, 395, ((0, 70e3), (40, 77e3), (57, 58e3), (78, 37e3), (100, 5e3)), 0.10),
    Car("plugin11", 11_000, 1, 16, 350, (), 0.08),
    Car("van60", 60_000, 1, 32, 400, ((0, 78e3), (50, 75e3), (80, 30e3), (100, 5e3)), 0.04),
    # Never full: the load that a fault needs to show itself. Not drawn for ordinary arrivals.
    Car("testload", 5_000_000, 3, 1000, 400, ((0, 1e6), (100, 1e6)), 0.0),
)

TEST_LOAD: Final = len(CARS) - 1


def _table() -> NDArray[np.float64]:
    table = np.zeros((len(CARS), 101))
    for row, car in enumerate(CARS):
        if car.dc_curve:
            points = np.array(car.dc_curve)
            table[row] = np.interp(np.arange(101), points[:, 0], points[:, 1])
    return table


#: Power limit of each car in W at 0, 1, ... 100 % state of charge, shape (n_cars, 101).
DC_POWER_W: Final = _table()


def ac_share(soc: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the share of its AC current a car draws at a charge of 0 to 1: 1 up to 95 %, 0.25 when full."""
    return np.clip(1.0 - (soc - 0.95) * 15.0, 0.25, 1.0)


def pack_voltage_v(nominal_v: NDArray[np.float64], soc: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the open-circuit voltage of a pack: 92 % of nominal when empty, 108 % when full."""
    return nominal_v * (0.92 + 0.14 * soc + 0.02 * soc**3)
