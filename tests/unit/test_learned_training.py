"""Training, drift, and the commands around models, on sessions that are made up."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models.batch import F64
from models.errors import ConfigError
from models.learned import drift
from models.learned.session_model import load
from models.learned.sessions import FEATURES, N_FEATURES, restored, transformed
from models.learned.training import TrainingConfig, train
from pipeline import cli
from tests.convert._native_log import NativeLog

pytest.importorskip("sklearn")

T0_MS = 1_780_000_000_000
QUICK = TrainingConfig(trees=20, components=2, folds=2, rare=0.02)


def sessions(n: int = 400, seed: int = 1) -> F64:
    """Return features of ordinary sessions; the second half of the features was not measured."""
    rng = np.random.default_rng(seed)
    x = np.full((n, N_FEATURES), np.nan)
    hours = rng.uniform(1.0, 8.0, n)
    watts = rng.choice([3.7, 7.4, 11.0], n)
    x[:, 0], x[:, 1], x[:, 2] = hours * watts * 0.9, hours, watts
    x[:, 3] = rng.normal(0.9, 0.02, n)
    return x


def stations(n: int = 400) -> np.ndarray[Any, np.dtype[np.str_]]:
    """Return whose sessions they are."""
    return np.array([f"site/{k % 8}" for k in range(n)])


def test_a_model_finds_what_is_unlike_its_sessions_and_little_else() -> None:
    model = train(sessions(), stations(), QUICK)
    assert model.header["features"] == ["energy_kwh", "duration_h", "peak_power_kw", "mean_power_share"]
    assert model.score(sessions(seed=2)).unusual.mean() < 0.04
    strange = sessions(50, seed=3)
    strange[:, 3] = 0.3  # the power breaks off again and again
    assert model.score(strange).unusual.mean() > 0.9
    assert model.header["metrics"]["unusual_unseen_station"] < 0.04


def test_the_same_sessions_in_any_order_have_one_fingerprint_and_equal_fits_one_id() -> None:
    a, b = train(sessions(), stations(), QUICK), train(sessions(), stations(), QUICK)
    assert a.model_id == b.model_id
    turned = train(sessions()[::-1], stations()[::-1], QUICK)
    assert turned.header["training"]["fingerprint"] == a.header["training"]["fingerprint"]
    other = train(sessions(seed=9), stations(), QUICK)
    assert other.header["training"]["fingerprint"] != a.header["training"]["fingerprint"]


def test_levels_come_from_stations_that_were_not_seen() -> None:
    """One station is another kind: its sessions judge the models that never saw it."""
    x, names = sessions(), stations()
    strange = names == "site/3"
    x[strange, 3] = 0.2
    usual = train(sessions(), stations(), QUICK)
    assert train(x, names, QUICK).header["mixture_level"] > usual.header["mixture_level"] + 10


def test_too_few_sessions_are_refused() -> None:
    with pytest.raises(ConfigError, match="20 sessions of 8 stations"):
        train(sessions(20), stations(20), QUICK)
    with pytest.raises(ConfigError, match="neither registers nor powers"):
        train(np.full((400, N_FEATURES), np.nan), stations(), QUICK)


def test_drift_is_seen_and_sameness_is_not() -> None:
    model = train(sessions(), stations(), QUICK)

    def state(x: F64) -> list[str]:
        counts = drift.counts_of(transformed(x)[:, model.used], model.edges)
        return [drift.word(float(v), len(x), 400) for v in drift.stability(model.shares, counts)]

    assert "drifted" not in state(sessions(2000, seed=5))
    moved = sessions(2000, seed=5)
    moved[:, 1] *= 2.0
    assert state(moved)[1] == "drifted"
    gone = sessions(2000, seed=5)
    gone[:, 3] = np.nan  # a channel that is not sent any more
    assert state(gone)[3] == "drifted"
    assert set(state(sessions(50))) == {"too few"}


def test_transformed_features_come_back() -> None:
    x = np.linspace(-3.0, 90.0, N_FEATURES)[None, :]
    back = [restored(name, float(v)) for name, v in zip(FEATURES, transformed(x)[0], strict=True)]
    np.testing.assert_allclose(back, x[0], atol=1e-12)


def write_log(path: Path, seed: int = 1, stations_: int = 4, n: int = 60, scale: float = 1.0) -> Path:
    """Write a log of sessions one after another."""
    log, rng = NativeLog(), random.Random(seed)
    for s in range(stations_):
        node, t, reg = f"S/N{s}", T0_MS + s, 0
        inventory = {"evse": 1, "u_n_v": 230, "phases": 3, "p_max_w": 11000, "conns": [{"conn": 1}]}
        log.add(t, node, "conn", online=True, cid=1, hb_s=900, sample_s=600, evses=[inventory])
        for k in range(n):
            hours, watts = rng.uniform(1.0, 4.0) * scale, rng.choice([3700.0, 7400.0, 11000.0])
            begin = t + 600_000
            log.tx(begin, node, 1, f"{s}-{k}", "Started", reg * 1000, chargingState="Charging")
            steps = 4
            for i in range(1, steps + 1):
                now = begin + round(hours * 3_600_000 * i / (steps + 1))
                power = watts * (0.9 if i % 2 else 1.0)
                moved = reg + round(watts * hours * i / (steps + 1))
                channels = ["Power.Active.Import", "Energy.Active.Import.Register"]
                log.meter(now, node, 1, channels, [power, moved], f"{s}-{k}")
            reg += round(watts * hours)
            t = begin + round(hours * 3_600_000)
            log.tx(t, node, 1, f"{s}-{k}", "Ended", reg * 1000)
    log.write(path)
    return path


def test_the_commands_train_list_show_compare_and_promote(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log, folder = write_log(tmp_path / "a.jsonl"), str(tmp_path / "models")

    def run(*words: str) -> tuple[int, str]:
        code = cli.main([*words])
        return code, capsys.readouterr().out

    quick = ["--trees", "10", "--folds", "2", "--rare", "0.02"]
    code, out = run("train", "--log", str(log), "--models", folder, "--json", *quick)
    made = json.loads(out)
    assert code == 0
    assert made["training"]["sessions"] == 240
    assert made["training"]["stations"] == 4
    assert load(Path(made["path"])).model_id == made["model"]
    code, out = run("train", "--log", str(log), "--models", folder, "--json", "--seed", "4", *quick)
    other = json.loads(out)["model"]
    assert run("models", "list", "--models", folder)[1].count("240 sessions of 4 stations") == 2
    shown = json.loads(run("models", "show", other[:6], "--models", folder)[1])
    assert shown["training"]["fingerprint"] == made["training"]["fingerprint"]
    words = ("models", "shadow", other, "--beside", made["model"], "--models", folder, "--log", str(log))
    compared = json.loads(run(*words, "--json")[1])
    assert compared["sessions"] == 240
    assert compared["only_active"] + compared["only_shadow"] == len(compared["different"])
    assert run("models", "drift", other, "--models", folder, "--log", str(log))[0] == 0
    moved = write_log(tmp_path / "b.jsonl", seed=2, scale=3.0)
    code, out = run("models", "drift", other, "--models", folder, "--log", str(moved), "--json")
    assert code == 1
    assert json.loads(out)["drifted"]
    code, out = run("models", "promote", other, "--models", folder, "--by", "Ann", "--dry-run")
    assert out.startswith("evt/v1/_op/model ")
    assert json.loads(out.split(" ", 1)[1]) == {"kind": "session", "model": other, "by": "Ann"}
    assert run("models", "show", "zz", "--models", folder)[0] == 2
