"""The electrical and thermal physics of a fleet: one numpy step per tick over all EVSEs.

Powers are held constant over a tick and integrated in integers (mW × ms), so a register is exactly the sum
of what was delivered. Voltages sag with the current of the whole site (feeder) and of the EVSE (its own
cable); temperatures follow I² with first-order lags.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from .config import FleetConfig
from .curves import CARS, DC_POWER_W, ac_share, pack_voltage_v
from .topology import Topology

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]

U_N_V = 230.0
MWMS_PER_MWH = 3_600_000
AC_EFFICIENCY = 0.90  # battery energy per AC energy
DC_EFFICIENCY = 0.96
GRID_EFFICIENCY = 0.95  # DC output per grid power
_DAY_MS = 86_400_000


class Faulty:
    """What faults change in the plant; neutral values mean a healthy plant. Index: EVSE, unless said."""

    def __init__(self, n: int, n_sites: int) -> None:
        self.v_pin = np.full((3, n), np.nan)  # V, NaN = the grid decides
        self.v_add = np.zeros((3, n))  # V
        self.k_scale = np.ones(n)  # of the contact resistance
        self.hot_c = np.full(n, np.nan)  # plug temperature at full offered current, NaN = healthy
        self.hot_tau_s = np.full(n, 60.0)  # lag of a plug with `hot_c`
        self.body_add = np.zeros(n)  # K
        self.over_a = np.zeros(n)  # A above the offer
        self.cap = np.ones(n)  # share of the wanted current that flows
        self.phase_on = np.ones((3, n))
        self.r_add = np.zeros(n)  # ohm in series with the EVSE
        self.leak_w = np.zeros(n)  # W that flow without a transaction
        self.leak_v = np.zeros(n)  # V on a DC output that should be dead
        self.cable_scale = np.ones(n)  # of the DC cable's resistance
        self.stuck_open = np.zeros(n, bool)
        self.meter_gain = np.ones(n)
        self.meter_hold = np.zeros(n, bool)
        self.f_add = np.zeros(n_sites)  # Hz, per site


class Plant:
    """State of the physics; `step` advances it by one tick.

    Attributes
    ----------
    i_a, v_v : ndarray, shape (3, n)
        Current and voltage per phase (DC: grid side), A and V.
    dc_a, dc_v : ndarray, shape (n,)
        Output of DC EVSEs, A and V.
    power_w : ndarray, shape (n,)
        Power to the car, W.
    energy_mwh, register_mwh : ndarray, shape (n,), int64
        What was really delivered, and what the meter counted.
    plug_c, body_c : ndarray, shape (n,)
        Temperatures, °C.
    soc : ndarray, shape (n,)
        State of charge of the connected car, 0 to 1.
    """

    def __init__(self, topology: Topology, config: FleetConfig, rng: np.random.Generator) -> None:
        n, sites = topology.n_evses, len(topology.sites)
        stations = [topology.stations[row] for row in topology.evse_station]
        self.rng = rng
        self.site = topology.evse_site
        self.dc = np.array([s.dc for s in stations])
        self.max_a = np.array([s.max_a for s in stations])
        self.evse_w = np.array([s.evse_w for s in stations])
        self.resolution_mwh = np.array([round(s.resolution_wh * 1000) for s in stations], np.int64)
        self.modulus_mwh = np.array([round(s.modulus_wh * 1000) for s in stations], np.int64)
        self.supply = np.zeros((3, n))  # 1 where the supply has that phase
        for row, station in enumerate(stations):
            self.supply[: station.phases, row] = 1.0
        self.faulty = Faulty(n, sites)
        # the car and the contactor: set by the sessions
        self.closed = np.zeros(n, bool)
        self.plugged = np.zeros(n, bool)
        self.offered_a = np.zeros(n)
        self.alloc_w = np.zeros(n)
        self.car = np.zeros(n, np.intp)
        self.car_a = np.zeros(n)
        self.car_phases = np.zeros((3, n))
        self.battery_wh = np.full(n, 50_000.0)
        self.pack_v = np.full(n, 400.0)
        self.soc = np.zeros(n)
        self.cycles = rng.integers(800, 9000, n)
        # state
        self.set_a = np.zeros(n)
        self.i_a = np.zeros((3, n))
        self.v_v = np.full((3, n), U_N_V) * self.supply
        self.dc_a = np.zeros(n)
        self.dc_v = np.zeros(n)
        self.power_w = np.zeros(n)
        self._power_mw = np.zeros(n, np.int64)
        self._metered_mw = np.zeros(n, np.int64)
        self._rest = np.zeros((2, n), np.int64)
        self.energy_mwh = np.zeros(n, np.int64)
        self.register_mwh = rng.integers(200_000_000, 20_000_000_000, n)
        self._site_model(topology, config, rng)
        self._thermal_model(config, rng)

    def _site_model(self, topology: Topology, config: FleetConfig, rng: np.random.Generator) -> None:
        n, sites = topology.n_evses, len(topology.sites)
        full_a = np.bincount(
            self.site,
            weights=np.where(self.dc, self.evse_w / GRID_EFFICIENCY / (3 * U_N_V), self.max_a),
            minlength=sites,
        )
        limit = np.array([site.limit_a for site in topology.sites])
        ac_a = np.bincount(self.site, weights=np.where(self.dc, 0.0, self.max_a), minlength=sites)
        full_a = np.where((limit > 0) & (limit < ac_a), full_a - ac_a + limit, full_a)
        given = np.array([site.feeder_ohm for site in topology.sites])
        self.feeder_ohm = np.where(given > 0, given, 7.0 / np.maximum(full_a, 32.0))
        self.site_v = np.clip(rng.normal(0.5, 1.5, (3, sites)), -1.5, 2.5) * [[0.5], [0.5], [0.5]]
        self.site_v += rng.uniform(-1.0, 3.0, sites)
        self.grid_v = np.zeros(sites)  # slow variation of the medium voltage
        self.phase_v = np.zeros((3, sites))
        self.freq_hz = 50.0
        self.own_ohm = rng.uniform(0.015, 0.04, n)
        self.cable_ohm = rng.uniform(0.002, 0.004, n)
        # electricians turn the phases from socket to socket, so that single-phase cars spread
        turn = rng.integers(0, 3, n)
        turn = np.where(self.supply[2] > 0, turn, 0)
        self.feeder = self.site * 3 + (np.arange(3)[:, None] + turn) % 3
        self.sites = sites

    def _thermal_model(self, config: FleetConfig, rng: np.random.Generator) -> None:
        n = len(self.site)
        self.ambient_mean_c = config.ambient_c + rng.normal(0.0, 1.0, self.sites)
        self.swing_c = config.ambient_swing_c
        self.weather_c = np.zeros(self.sites)
        self.ambient_c = self.ambient_mean_c.copy()
        # rise of the plug at rated current: AC 12 to 17 K, liquid-cooled DC 14 to 20 K
        rise = np.where(self.dc, rng.uniform(14.0, 20.0, n), rng.uniform(12.0, 17.0, n))
        self.k_per_a2 = rise / self.max_a**2
        self.plug_tau_s = rng.uniform(360.0, 600.0, n)
        self.body_rise_c = rng.uniform(4.0, 7.0, n)
        self.body_c = np.full(n, config.ambient_c + 4.0)
        self.plug_c = np.full(n, config.ambient_c + 1.0)

    def integrate(self, dt_ms: int) -> None:
        """Add the energy of the tick that ends now to batteries and registers."""
        for row, power_mw in enumerate((self._power_mw, self._metered_mw)):
            amount = self._rest[row] + power_mw * dt_ms
            whole = amount // MWMS_PER_MWH
            self._rest[row] = amount - whole * MWMS_PER_MWH
            if row == 0:
                self.energy_mwh += whole
            else:
                self.register_mwh += whole
        efficiency = np.where(self.dc, DC_EFFICIENCY, AC_EFFICIENCY)
        gain = self.power_w * (dt_ms / 3_600_000.0) * efficiency / self.battery_wh
        self.soc = np.minimum(1.0, self.soc + np.where(self.closed, gain, 0.0))

    def step(self, now_ms: int, dt_s: float) -> None:
        """Compute currents, voltages, powers and temperatures at `now_ms`."""
        self._currents(dt_s)
        self._voltages(dt_s)
        bad = self.faulty
        active = self.i_a * self.v_v
        factor = np.where(self.set_a > 0, 0.985 + 0.008 * np.minimum(1.0, self.set_a / self.max_a), 1.0)
        self.factor = factor
        self.power_w = np.where(self.dc, self.dc_v * self.dc_a, active.sum(axis=0) * factor) + bad.leak_w
        self._power_mw = np.rint(self.power_w * 1000.0).astype(np.int64)
        metered = np.rint(self.power_w * (1000.0 * bad.meter_gain)).astype(np.int64)
        self._metered_mw = np.where(bad.meter_hold, 0, metered)
        self._temperatures(now_ms, dt_s)

    def _currents(self, dt_s: float) -> None:
        bad = self.faulty
        flows = self.closed & ~bad.stuck_open
        wish = np.minimum(self.offered_a * 0.988, self.car_a) * ac_share(self.soc)
        position = self.soc * 100.0
        low = np.minimum(position.astype(np.intp), 99)
        curve = DC_POWER_W[self.car, low]
        curve = curve + (DC_POWER_W[self.car, low + 1] - curve) * (position - low)
        open_v = pack_voltage_v(self.pack_v, self.soc)
        dc_a = np.minimum(np.minimum(curve, self.alloc_w) / open_v, self.offered_a * 0.995)
        target = np.where(self.dc, dc_a, wish) * bad.cap
        target = np.where(bad.over_a > 0, self.offered_a + bad.over_a, target)
        up = np.where(self.dc, 15.0, 2.5) * dt_s
        down = np.where(self.dc, 200.0, 15.0) * dt_s
        step = np.clip(target - self.set_a, -down, up)
        self.set_a = np.where(flows, self.set_a + step, 0.0)
        self.dc_a = np.where(self.dc, self.set_a, 0.0)
        self.dc_v = np.where(self.dc & self.closed, open_v + 0.03 * self.set_a, bad.leak_v)
        grid_a = self.dc_v * self.dc_a / (GRID_EFFICIENCY * 3 * U_N_V)
        ac = np.where(self.dc, 0.0, self.set_a) * self.car_phases * self.supply * bad.phase_on
        self.i_a = np.where(self.dc, grid_a, ac)

    def _voltages(self, dt_s: float) -> None:
        bad, rng = self.faulty, self.rng
        slow, fast = math.exp(-dt_s / 900.0), math.exp(-dt_s / 60.0)
        noise = rng.standard_normal((5, self.sites))
        self.grid_v = slow * self.grid_v + math.sqrt(1 - slow * slow) * 1.6 * noise[0]
        self.phase_v = fast * self.phase_v + math.sqrt(1 - fast * fast) * 0.25 * noise[1:4]
        self.freq_hz = 50.0 + fast * (self.freq_hz - 50.0) + math.sqrt(1 - fast * fast) * 0.02 * noise[4, 0]
        load = np.bincount(self.feeder.ravel(), weights=self.i_a.ravel(), minlength=3 * self.sites)
        feeder = (U_N_V + self.grid_v + self.site_v + self.phase_v).T.ravel()
        feeder = feeder - np.repeat(self.feeder_ohm, 3) * load
        volts = feeder[self.feeder] - (self.own_ohm + bad.r_add) * self.i_a + bad.v_add
        pinned = bad.v_pin + 0.2 * (volts - U_N_V)
        self.v_v = np.where(np.isnan(bad.v_pin), volts, pinned) * self.supply

    def _temperatures(self, now_ms: int, dt_s: float) -> None:
        bad = self.faulty
        hour = (now_ms % _DAY_MS) / 3_600_000.0
        slow = math.exp(-dt_s / 7200.0)
        self.weather_c = slow * self.weather_c + math.sqrt(1 - slow * slow) * 1.0 * self.rng.standard_normal(
            self.sites
        )
        daily = self.swing_c * math.sin((hour - 9.0) * math.pi / 12.0)
        self.ambient_c = self.ambient_mean_c + self.weather_c + daily
        ambient = self.ambient_c[self.site]
        load = np.minimum(1.2, self.power_w / self.evse_w)
        body_end = ambient + 4.0 + self.body_rise_c * load + bad.body_add
        body_tau = np.where(bad.body_add > 0, 120.0, 1200.0)
        self.body_c += (body_end - self.body_c) * (1.0 - np.exp(-dt_s / body_tau))
        through = np.where(self.dc, self.dc_a, self.i_a.max(axis=0))
        plug_end = ambient + 0.35 * (self.body_c - ambient) + self.k_per_a2 * bad.k_scale * through**2
        share = np.minimum(1.0, through / np.maximum(0.9 * self.offered_a, 1.0))
        hot = ~np.isnan(bad.hot_c)
        plug_end = np.where(hot, plug_end + (bad.hot_c - plug_end) * share**2, plug_end)
        tau = np.where(hot, bad.hot_tau_s, self.plug_tau_s)
        self.plug_c += (plug_end - self.plug_c) * (1.0 - np.exp(-dt_s / tau))

    def register_wh(self, evses: NDArray[np.intp]) -> F64:
        """Return the registers of `evses` as they show, in Wh."""
        return self.shown_mwh(evses) / 1000.0

    def shown_mwh(self, evses: NDArray[np.intp]) -> I64:
        """Return the registers of `evses` as they show, in mWh: cut to resolution and modulus."""
        resolution, modulus = self.resolution_mwh[evses], self.modulus_mwh[evses]
        shown = self.register_mwh[evses] // resolution * resolution
        return np.where(modulus > 0, shown % np.maximum(modulus, 1), shown)

    def load_car(self, evse: int, car: int, soc: float, phases: int, phase_order: int) -> None:
        """Plug a car into an EVSE: `phases` of its AC charger count, from supply phase `phase_order` on."""
        model = CARS[car]
        self.car[evse] = car
        self.car_a[evse] = model.ac_max_a
        self.car_phases[:, evse] = 0.0
        for phase in range(phases):
            self.car_phases[(phase + phase_order) % 3, evse] = 1.0
        self.battery_wh[evse] = model.battery_wh
        self.pack_v[evse] = model.pack_v
        self.soc[evse] = soc
        self.plugged[evse] = True

    def unload_car(self, evse: int) -> None:
        """Unplug the car."""
        self.plugged[evse] = False
        self.closed[evse] = False
        self.car_phases[:, evse] = 0.0
