"""Twin of `learned_session`: every reading of a session kept, features and scores written out.

The model is made by hand, so that nothing has to be trained: a forest of three stumps and one Gaussian.
"""

from __future__ import annotations

import atexit
import itertools
import math
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from models.batch import IN_TRANSACTION
from models.learned.mixture import Mixture
from models.learned.model_file import save
from models.learned.session_model import SessionModel
from models.learned.trees import Trees
from models.records import Transaction

from .plain import Expected, Reading, S, Story

GAP = 14_400 * S
USED = ("duration_h", "mean_power_share", "power_swing", "temperature_rise_c")
LOGARITHMIC = {"energy_kwh", "duration_h", "peak_power_kw", "power_swing", "heating_c_per_ka2"}


def model(level: float = 0.5) -> SessionModel:
    """Return a model; the level decides how many sessions are unusual."""
    f = len(USED)
    i4 = np.int32
    forest = Trees(
        np.array([0, 3, 6], i4),
        np.array([0, -1, -1, 1, -1, -1, 2, -1, -1], i4),
        np.array([0.1, 0.0, 0.0, 0.2, 0.0, 0.0, 0.3, 0.0, 0.0]),
        np.array([1, -1, -1, 4, -1, -1, 7, -1, -1], i4),
        np.array([2, -1, -1, 5, -1, -1, 8, -1, -1], i4),
        np.zeros(9, np.uint8),
        np.array([0.0, 3.0, 1.0, 0.0, 3.0, 1.0, 0.0, 3.0, 1.0]),
    )
    root = np.triu(np.full((1, f, f), 0.2)) + np.eye(f)
    mixture = Mixture(np.array([-1.0]), np.zeros((1, f)), root)
    header = {
        "kind": "session",
        "format": 1,
        "version": 1,
        "features_version": 1,
        "features": list(USED),
        "forest_scale": 6.0,
        "forest_level": level,
        "forest_support": level,
        "mixture_level": 1.2,
        "mixture_support": 1.2,
        "training": {"fingerprint": "", "sessions": 0, "stations": 0},
        "metrics": {},
    }
    centre = np.array([0.3, 0.5, 1.0, 10.0])
    spread = np.array([0.5, 0.25, 1.0, 20.0])
    edges, shares = np.zeros((f, 9)), np.full((f, 11), 1 / 11)
    return SessionModel(header, centre, spread, edges, shares, forest, mixture)


FOLDER = Path(tempfile.mkdtemp(prefix="models-"))
atexit.register(shutil.rmtree, FOLDER, ignore_errors=True)
MODEL, OTHER = model(), model(0.44)
for _model in (MODEL, OTHER):
    save(_model, FOLDER)

#: Stories last an hour or two.
LAW_CONFIG: dict[str, Any] = {"models": str(FOLDER), "model": MODEL.model_id, "shadow": OTHER.model_id}


def emissions(story: Story) -> list[Expected]:
    """Return what the detector should emit."""
    out: list[Expected] = []
    ended = [
        r for r in story.records if isinstance(r, Transaction) and r.event_type == "Ended" and r.evse_row >= 0
    ]
    for readings in story.by_evse():
        row = readings[0].about.row
        events: list[tuple[int, int, int, Any]] = [(r.order, 0, r.time_ns, r) for r in readings]
        events += [(r.at.order, 1, 0, r.at) for r in ended if r.evse_row == row]
        session: list[Reading] = []
        stood: tuple[int, bool] | None = None
        for _, is_end, _, event in sorted(events, key=lambda e: e[:3]):
            done: list[Reading] = []
            if is_end:
                done, session = session, []
            elif _known(event):
                inside = event.state & IN_TRANSACTION
                if session and (not inside or event.time_ns - session[-1].time_ns > GAP):
                    done, session = session, []
                if inside:
                    session.append(event)
            if len(done) >= 3 and done[-1].time_ns - done[0].time_ns >= 120 * S:
                stood = _judge(row, done, event, stood, out)
    return out


def _judge(
    row: int, done: list[Reading], by: Any, stood: tuple[int, bool] | None, out: list[Expected]
) -> tuple[int, bool] | None:
    x = features(done)
    z = []
    for name, centre, spread in zip(USED, MODEL.centre, MODEL.spread, strict=True):
        value = x[name]
        if name in LOGARITHMIC:
            value = math.copysign(math.log1p(abs(value)), value)
        value = (value - centre) / spread
        z.append(float(np.float32(min(20.0, max(-20.0, value)))) if math.isfinite(value) else 0.0)
    depth = sum(3.0 if z[k] <= least else 1.0 for k, least in enumerate((0.1, 0.2, 0.3)))
    score = 2.0 ** (-depth / 6.0)
    surprise = 1.0 + 0.5 * sum((z[b] + 0.2 * sum(z[: b + 1])) ** 2 for b in range(4))
    unusual = score > 0.5 and surprise > 1.2
    evidence: dict[str, Any] = {"score": score, "level": 0.5}
    if unusual:
        odd = max(range(4), key=lambda k: abs(z[k]))
        name = USED[odd]
        centre = float(MODEL.centre[odd])
        evidence |= {"feature": name, "model": MODEL.model_id}
        evidence["usual"] = math.expm1(centre) if name in LOGARITHMIC else centre
        if not math.isnan(x[name]):
            evidence["value"] = x[name]
    kind = ""
    if unusual and (stood is None or (by.live and not stood[1])):
        kind, stood = "raise", (done[0].time_ns, by.live)
    elif stood is not None:
        kind = "update" if unusual else "clear"
    if kind and stood is not None:
        start, live = stood
        end = done[-1].time_ns
        out.append(Expected(by.order, "unusual", "evse", row, kind, "info", live, start, end, evidence))
    return None if kind == "clear" else stood


def _value(reading: Reading, name: str) -> float:
    return reading.values.get(name, math.nan)


def _watts(reading: Reading) -> float:
    whole = _value(reading, "Power.Active.Import")
    return whole if whole == whole else sum(_value(reading, f"Power.Active.Import@L{p}") for p in (1, 2, 3))


#: What makes a reading one of a session.
_READ = (
    *(f"{name}{p}" for name in ("Power.Active.Import", "Current.Import") for p in ("", "@L1", "@L2", "@L3")),
    *("Voltage@L1-N", "Voltage", "Temperature/Cable", "Power.Factor", "SoC"),
)


def _known(reading: Reading) -> bool:
    return reading.reg_mwh is not None or any(math.isfinite(_value(reading, name)) for name in _READ)


def features(done: list[Reading]) -> dict[str, float]:
    """Return the features that the model by hand uses."""
    powers = [(r.time_ns / S, w) for r in done if math.isfinite(w := _watts(r))]
    share = swing = math.nan
    if powers:
        peak = max(w for _, w in powers)
        span = powers[-1][0] - powers[0][0]
        if peak > 100.0 and span > 0:
            pairs = list(itertools.pairwise(powers))
            share = sum((b - a) * (v + w) / 2 for (a, v), (b, w) in pairs) / (peak * span)
            swing = sum(abs(w - v) for (_, v), (_, w) in pairs) / peak
    degrees = [d for r in done if (d := _value(r, "Temperature/Cable")) == d]
    return {
        "duration_h": (done[-1].time_ns - done[0].time_ns) / (3600 * S),
        "mean_power_share": share,
        "power_swing": swing,
        "temperature_rise_c": max(degrees) - degrees[0] if degrees else math.nan,
    }
