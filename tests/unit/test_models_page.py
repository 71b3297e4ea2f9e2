"""The page of learned models: what there is, which one judges, what it is worth, whether it still fits."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from connectors.api.learned import LearnedSettings, ModelShelf, figures
from connectors.api.settings import ApiSettings
from connectors.api.views import ViewSettings
from connectors.status import write_status
from models.learned.model_file import Arrays, identity, save
from pipeline.commands.api import views
from pipeline.config import Config

from ._api_client import Client

RUNNING: dict[str, Any] = {
    "detector": "learned_session", "kind": "session", "refused": "", "trained": 1_000,
    "compared": {"neither": 90, "only_active": 4, "only_shadow": 6, "both": 0},
    "features": ["energy", "taper"], "shares": [[0.5, 0.5], [0.5, 0.5]],
}  # fmt: skip


@dataclass
class Fake:
    """A model of an invented kind."""

    header: dict[str, Any]

    def arrays(self) -> Arrays:
        return {"centre": np.zeros(3)}

    @property
    def model_id(self) -> str:
        return identity(self.header, self.arrays())


@pytest.fixture
def folder(tmp_path: Path) -> tuple[Path, str, str]:
    """Return a folder with two models and a broken file, and the ids of the two."""
    ids = []
    for sessions in (120, 480):
        model = Fake(
            {
                "kind": "session",
                "features": ["energy", "taper"],
                "training": {"fingerprint": "0123456789abcdef", "sessions": sessions, "stations": 7},
                "metrics": {"unusual_unseen_station": 0.012345, "folds": [1, 2, 3]},
            }
        )
        ids.append(save(model, tmp_path / "models").stem)
    (tmp_path / "models" / "broken.npz").write_bytes(b"no archive")
    return tmp_path, ids[0], ids[1]


def shelf(folder: Path, model: str = "", shadow: str = "") -> ModelShelf:
    return ModelShelf([LearnedSettings("learned_session", folder / "models", model, shadow)], folder)


def test_models_are_listed_with_their_roles_those_in_use_first(folder: tuple[Path, str, str]) -> None:
    place, first, second = folder
    found = shelf(place, second, first).models()
    assert [(m["model"], m["role"]) for m in found] == [
        (second, "in force"),
        (first, "shadow"),
        ("broken", ""),
    ]
    assert found[0]["training"]["sessions"] == 480
    assert found[0]["arrays"] == {"centre": [3]}
    assert "not a model file" in found[2]["problem"]
    assert [m["role"] for m in shelf(place).models()] == ["", "", ""]


def test_what_runs_counts_before_what_is_configured(folder: tuple[Path, str, str]) -> None:
    place, first, second = folder
    for worker, counts in (("worker-00", [[300, 300], [590, 10]]), ("worker-01", [[200, 200], [390, 10]])):
        said = RUNNING | {"model": first, "shadow": second, "counts": counts}
        assert write_status(place, worker, {"models": [said]})
    here = shelf(place, second, first)
    assert [(m["model"], m["role"]) for m in here.models()][:2] == [(first, "in force"), (second, "shadow")]
    (entry,) = here.running()
    assert (entry["sessions"], entry["compared"]["only_shadow"], entry["drifted"]) == (1_000, 12, True)
    assert [(d["feature"], d["state"]) for d in entry["drift"]] == [
        ("energy", "stable"),
        ("taper", "drifted"),
    ]
    assert "no longer fits" in entry["problems"][0]


def test_page_and_api(folder: tuple[Path, str, str]) -> None:
    place, first, second = folder
    said = RUNNING | {"model": first, "shadow": second, "counts": [[500, 500], [990, 10]]}
    write_status(place, "worker-00", {"models": [said]})
    settings = ApiSettings(
        views=ViewSettings(learned=(LearnedSettings("learned_session", place / "models"),))
    )
    client = Client(f"sqlite:///{place / 'ledger.sqlite'}", place, settings)
    told = client.get("/api/v1/models").json()
    assert told["models"][0]["metrics"]["unusual_unseen_station"] == 0.012345
    assert told["running"][0]["drift"][1]["state"] == "drifted"
    page = client.get("/models").text
    for words in (
        first,
        "in force",
        "drifted",
        "energy, taper",
        "unusual unseen station <b>0.01235",
        "no longer fits",
    ):
        assert words in page
    none = Client(f"sqlite:///{place / 'ledger.sqlite'}", place / "elsewhere").get("/models").text
    assert "no learned detector has a folder of models" in none


def test_settings_name_the_learned_detectors_with_a_folder() -> None:
    tables = {
        "learned_session": {"models": "m", "model": "abc"},
        "learned_power": {"models": "m", "enabled": False},
        "over_current": {"factor": 1.2},
    }
    config = Config().model_copy(update={"detectors": tables})
    assert views(config).learned == (LearnedSettings("learned_session", Path("m"), "abc"),)
    assert views(config).detectors["over_current"] == {"factor": 1.2}


def test_figures_are_told_flat() -> None:
    assert figures({"a_b": {"c": 1.23456}, "d": [1, 2], "e": "x"}) == [
        ("a b c", "1.235"),
        ("d", "2 values"),
        ("e", "x"),
    ]
