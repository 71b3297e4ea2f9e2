"""Training of expected power, its file, the running state of models, and the commands, on made-up data."""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from connectors.api.health import Process, _process_problems
from connectors.status import write_status
from models.errors import ConfigError
from models.learned import catalogue, drift, power_training, running, trees
from models.learned.model_file import save
from models.learned.power_model import PARTS, PowerModel, load
from models.learned.power_training import (
    PowerConfig,
    PowerRows,
    fit,
    level_of,
    picked,
    train,
    unusual_sessions,
)
from models.learned.power_windows import OFFER_AS_FIRST, OFFER_KNOWN, USABLE
from pipeline import cli
from tests.convert._native_log import NativeLog

pytest.importorskip("sklearn")

QUICK = PowerConfig(trees=30, classes=3, folds=2, rare=0.02)
T0_MS = 1_780_000_000_000


@dataclass(frozen=True)
class Kind:
    """A class of vehicles: reference, and after how many full hours its power falls."""

    log_kw: float
    falls_at: float


KINDS = (Kind(1.3, 0.6), Kind(2.4, 1.2))


def rows(n: int = 40, seed: int = 1, stations: int = 8) -> PowerRows:
    """Return sessions of both kinds: full power, then a taper."""
    rng = np.random.default_rng(seed)
    parts = []
    for k in range(n):
        kind = KINDS[k % 2]
        minute = np.arange(5.0, 105.0, 2.0)
        full = minute / 60.0
        share = np.where(full < kind.falls_at, 1.0, np.exp(-1.5 * (full - kind.falls_at)))
        share = share * (1.0 + 0.01 * rng.normal(size=50))
        inputs = np.full((50, 5), np.nan)
        inputs[:, 0], inputs[:, 1], inputs[:, 3] = minute / 60.0, full, 1.0
        shapes = np.tile([kind.log_kw + 0.05 * rng.normal(), 1.0, 1.0, 0.98], (50, 1))
        flags = np.full(50, USABLE | OFFER_KNOWN | OFFER_AS_FIRST, np.uint8)
        time_ns = (T0_MS * 1_000_000 + minute * 60e9).astype(np.int64) + k * 10**14
        names = np.full(50, f"site/{k // 2 % stations}")
        evse = np.ones(50, np.int32)
        parts.append((names, evse, np.full(50, k), time_ns, flags, share, inputs, shapes))
    return PowerRows(*(np.concatenate(column) for column in zip(*parts, strict=True)))


@pytest.fixture(scope="module")
def made() -> PowerModel:
    return train(rows(), QUICK)


def test_the_band_knows_the_class_and_the_moment(made: PowerModel) -> None:
    data = rows(2, seed=9)
    low, high = made.band(data.inputs, data.shapes)
    first, second = data.session == 0, data.session == 1
    middle = made.expected("middle", made.features(data.inputs, data.shapes))
    minute = (71 - 5) // 2  # the first kind has tapered, the second begins to
    assert middle[first][minute] == pytest.approx(0.42, abs=0.05)
    assert middle[second][minute] == pytest.approx(1.0, abs=0.05)
    assert high[first][minute] < middle[second][minute] - 0.3
    assert ((data.share >= low) & (data.share <= high)).mean() > 0.85
    metrics = made.header["metrics"]
    assert metrics["vehicle_classes"] == 2
    assert metrics["pinball_middle"] < 0.2 * metrics["pinball_middle_constant"]
    assert 0.7 < metrics["coverage_band"] <= metrics["coverage_widened"] <= 1.0
    assert metrics["found_halved"] > 0.9
    assert metrics["unusual_unseen_station"] < 0.15
    assert (
        made.header["features"] == ["elapsed_h", "vehicle_class"] or "full_hours" in made.header["features"]
    )


def test_a_session_with_half_the_power_is_unusual(made: PowerModel) -> None:
    data = rows(20, seed=5)
    assert not unusual_sessions(made, data).any()
    half = data._replace(share=np.where(data.inputs[:, 0] > 0.4, 0.5, 1.0) * data.share)
    assert unusual_sessions(made, half).mean() > 0.9
    unknown = half._replace(flags=np.full(len(half.flags), USABLE, np.uint8))
    assert not unusual_sessions(made, unknown).any()
    throttled = half._replace(inputs=half.inputs * np.array([1, 1, 1, 0.2, 1]))
    assert not unusual_sessions(made, throttled).any()


def test_scores_equal_scikit_learn(monkeypatch: pytest.MonkeyPatch) -> None:
    fitted: list[Any] = []
    original = trees.of_gradient_boosting

    def spied(model: Any) -> Any:
        fitted.append(model)
        return original(model)

    monkeypatch.setattr(power_training, "of_gradient_boosting", spied)
    data, unseen = rows(), rows(seed=7)
    model = fit(data, QUICK)
    unseen.inputs[::7, 0] = np.nan
    x = model.features(unseen.inputs, unseen.shapes)
    known = np.where(np.isfinite(data.inputs).any(axis=0), unseen.inputs, 0.0)
    shown = np.column_stack([known, x[:, -1]])
    for part, sklearn in zip(PARTS, fitted, strict=True):
        np.testing.assert_allclose(model.expected(part, x), sklearn.predict(shown), rtol=0, atol=1e-9)


def test_equal_data_have_one_fingerprint_and_a_file_comes_back(made: PowerModel, tmp_path: Path) -> None:
    data = rows()
    order: Any = np.argsort(-data.session, kind="stable")
    turned = train(picked(data, order), QUICK)
    assert turned.header["training"]["fingerprint"] == made.header["training"]["fingerprint"]
    assert train(rows(), QUICK).model_id == made.model_id
    path = save(made, tmp_path)
    assert load(path).model_id == catalogue.load(path).model_id == made.model_id == path.stem
    with np.load(path, allow_pickle=False) as file:
        assert all(file[name].dtype.kind in "iuf" for name in file.files)


def test_the_level_promises_what_its_sessions_can() -> None:
    worst = np.arange(99.0)
    assert level_of(worst, 0.1) == (89.0, 0.1)
    assert level_of(worst, 0.001) == (98.0, 0.01)
    assert level_of(np.full(50, -np.inf), 0.1)[0] == 0.0


def test_too_little_and_wrong_settings_are_refused() -> None:
    with pytest.raises(ConfigError, match="150 minutes of power in 3 sessions"):
        train(rows(3), QUICK)
    with pytest.raises(ConfigError, match="quantile"):
        train(rows(), PowerConfig(quantile=0.7))


def entry(model: PowerModel, data: PowerRows, **change: Any) -> dict[str, Any]:
    """Return what a shard says after it has seen some sessions."""
    tally = drift.Tally(4)
    tally.add(power_training.first_shapes(data), model.edges)
    said = {
        "detector": "learned_power",
        "kind": "power",
        "model": model.model_id,
        "shadow": "",
        "refused": "",
    }
    compared = dict.fromkeys(("neither", "only_active", "only_shadow", "both"), 1)
    counts = {
        "features": list("abcd"),
        "shares": model.shares.tolist(),
        "counts": tally.counts.tolist(),
        "trained": 40,
    }
    return said | {"compared": compared} | counts | change


def test_running_state_adds_up_over_shards_and_names_drift(made: PowerModel) -> None:
    usual, small = rows(400, seed=3), rows(150, seed=4)
    (one,) = running.merged([entry(made, small), entry(made, small)])
    assert (one["sessions"], one["compared"]["both"], running.problems(one)) == (300, 2, [])
    moved = usual._replace(shapes=usual.shapes + np.array([1.5, 0, 0, 0]))
    (other,) = running.merged([entry(made, moved)])
    assert other["drifted"]
    assert "no longer fits" in running.problems(other)[0]
    (asked,) = running.merged(running.merged([entry(made, small, refused="zz")]))
    assert "asked for model zz" in running.problems(asked)[0]
    worker = Process("worker-00", "running", None, None, {"models": [other]}, 0)
    assert [words.split(" no ")[0] for words in _process_problems(worker)] == [
        f"worker-00, learned_power: model {made.model_id}"
    ]


def test_a_tally_is_the_same_however_sessions_come(made: PowerModel) -> None:
    x = power_training.first_shapes(rows(300, seed=3))
    x = np.tile(x, (20, 1))
    whole, parts = drift.Tally(4), drift.Tally(4)
    whole.add(x, made.edges)
    for k in range(0, len(x), 7):
        parts.add(x[k : k + 7], made.edges)
    assert (whole.counts == parts.counts).all()
    assert whole.sessions < drift.KEEP


def write_log(path: Path) -> Path:
    """Write a log of charges with currents and offers, two stations, each session 40 minutes."""
    log = NativeLog()
    names = ["Power.Active.Import", "Current.Import@L1", "Current.Offered", "Energy.Active.Import.Register"]
    for s in range(2):
        node, t, reg = f"S/N{s}", T0_MS + s, 0
        inventory = {"evse": 1, "u_n_v": 230, "phases": 1, "p_max_w": 7400, "conns": [{"conn": 1}]}
        log.add(t, node, "conn", online=True, cid=1, hb_s=900, sample_s=60, evses=[inventory])
        for k in range(10):
            begin, amps = t + 600_000, 16.0 if k % 2 else 32.0
            log.tx(begin, node, 1, f"{s}-{k}", "Started", reg * 1000, chargingState="Charging")
            for i in range(1, 41):
                taken = amps * (1.0 if i < 30 else 0.5)
                reg += round(taken * 230 / 60)
                log.meter(begin + i * 60_000, node, 1, names, [taken * 230, taken, amps, reg], f"{s}-{k}")
            t = begin + 41 * 60_000
            log.tx(t, node, 1, f"{s}-{k}", "Ended", reg * 1000)
    log.write(path)
    return path


def test_the_commands(tmp_path: Path, capsys: pytest.CaptureFixture[str], made: PowerModel) -> None:
    log, folder = str(write_log(tmp_path / "a.jsonl")), str(tmp_path / "models")

    def run(*words: str) -> tuple[int, str]:
        code = cli.main([*words])
        return code, capsys.readouterr().out

    quick = ["--kind", "power", "--trees", "5", "--folds", "2", "--rare", "0.1"]
    code, out = run("train", "--log", log, "--models", folder, "--json", *quick)
    first = json.loads(out)
    assert (code, first["kind"]) == (0, "power")
    assert first["training"] | {"fingerprint": ""} == {
        "fingerprint": "", "sessions": 20, "stations": 2, "windows": 680
    }  # fmt: skip
    assert "  power  20 sessions of 2 stations" in run("models", "list", "--models", folder)[1]
    words = ("models", "shadow", first["model"], "--beside", first["model"], "--models", folder)
    compared = json.loads(run(*words, "--log", log, "--json")[1])
    assert (compared["sessions"], compared["different"]) == (20, [])
    code, out = run("models", "drift", first["model"], "--models", folder, "--log", log)
    assert (code, out.count("too few")) == (0, 4)
    out = run("models", "promote", first["model"], "--models", folder, "--by", "Ann", "--dry-run")[1]
    assert json.loads(out.split(" ", 1)[1]) == {"kind": "power", "model": first["model"], "by": "Ann"}


def test_the_running_state_is_read_from_the_workers(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], made: PowerModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CHARGESTREAM_SERVICE__DATA_DIR", str(tmp_path))
    assert cli.main(["models", "drift"]) == 0
    assert "no worker has a folder of models" in capsys.readouterr().out
    moved = rows(150, seed=4)
    moved = moved._replace(shapes=moved.shapes + np.array([1.5, 0, 0, 0]))
    for k in range(2):
        write_status(tmp_path, f"worker-0{k}", {"models": running.merged([entry(made, moved)])})
    assert cli.main(["models", "drift"]) == 1
    out = capsys.readouterr().out
    assert f"learned_power: model {made.model_id}, shadow none" in out
    assert "300 sessions counted" in out
    assert "! learned_power: model" in out
    assert cli.main(["models", "running", "--json"]) == 1
    assert json.loads(capsys.readouterr().out)[0]["drifted"]
    logging.getLogger("chargestream").handlers.clear()
