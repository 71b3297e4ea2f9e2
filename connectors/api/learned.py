"""Learned models: what there is, which one judges, what it is worth, whether it still fits; page and JSON."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from fastapi import FastAPI
from fastapi.responses import HTMLResponse, Response

from connectors.status import read_status
from models.errors import ConfigError
from models.learned.model_file import SUFFIX, read
from models.learned.running import merged, problems

from .page import Page

_MOST_MODELS: Final = 200
_MOST_WORKERS: Final = 1_000


@dataclass(frozen=True, slots=True)
class LearnedSettings:
    """A learned detector.

    Attributes
    ----------
    detector : str
    folder : Path
        Of its models.
    model, shadow : str
        Ids of those that judge from the start, aloud and in silence; empty: none.
    """

    detector: str
    folder: Path
    model: str = ""
    shadow: str = ""


class ModelShelf:
    """The models of folders, and what workers say of those they run. Thread-safe.

    Parameters
    ----------
    settings : sequence of LearnedSettings
        The learned detectors, with their folders and the models that they begin with.
    data_dir : Path
        Where workers keep their status files.
    """

    def __init__(self, settings: Sequence[LearnedSettings], data_dir: Path) -> None:
        self._settings, self._data_dir = settings, data_dir
        self._lock = threading.Lock()
        self._read: dict[Path, tuple[int, dict[str, Any]]] = {}

    def running(self) -> list[dict[str, Any]]:
        """Return what learned models do in all workers together, by detector."""
        names = sorted(path.stem for path in (self._data_dir / "status").glob("worker-*.json"))
        said = [read_status(self._data_dir, name).get("models", []) for name in names[:_MOST_WORKERS]]
        return [
            {name: entry[name] for name in _TOLD} | {"problems": problems(entry)}
            for entry in merged(part for parts in said for part in parts)
        ]

    def models(self) -> list[dict[str, Any]]:
        """Return every model file with its roles, those in use first.

        An entry has ``model, detector, role`` (in force, shadow, or empty), ``kind, training, metrics,
        features``, and ``problem`` where a file cannot be read.
        """
        running = self.running()
        out = []
        for settings in self._settings:
            roles = _roles(settings, [entry for entry in running if entry["detector"] == settings.detector])
            for path in sorted(settings.folder.glob(f"*{SUFFIX}"))[:_MOST_MODELS]:
                role = roles.get(path.stem, "")
                about = {"model": path.stem, "detector": settings.detector, "role": role}
                out.append(about | self._about(path))
        order = {"in force": 0, "shadow": 1}
        return sorted(out, key=lambda m: (m["detector"], order.get(m["role"], 2), m["model"]))

    def _about(self, path: Path) -> dict[str, Any]:
        try:
            changed_ns = path.stat().st_mtime_ns
            with self._lock:
                held = self._read.get(path)
            if held is not None and held[0] == changed_ns:
                return held[1]
            header, arrays = read(path)
        except (OSError, ConfigError) as error:
            return _BLANK | {"problem": str(error)}
        about = {
            "kind": header.get("kind", ""),
            "training": header.get("training", {}),
            "metrics": header.get("metrics", {}),
            "features": header.get("features", []),
            "arrays": {name: list(array.shape) for name, array in sorted(arrays.items())},
            "problem": "",
        }
        with self._lock:
            self._read[path] = (changed_ns, about)
        return about


_TOLD: Final = ("detector", "kind", "model", "shadow", "refused", "compared", "sessions", "drifted", "drift")
_BLANK: Final[dict[str, Any]] = {"kind": "", "training": {}, "metrics": {}, "features": [], "arrays": {}}


def _roles(settings: LearnedSettings, running: Sequence[dict[str, Any]]) -> dict[str, str]:
    """Return model id -> role, of what runs; of what is configured while nothing says that it runs."""
    pairs = [(entry["model"], entry["shadow"]) for entry in running]
    roles: dict[str, str] = {}
    for model, shadow in pairs or [(settings.model, settings.shadow)]:
        roles |= {str(shadow): "shadow"} if shadow else {}
        roles |= {str(model): "in force"} if model else {}
    return roles


def figures(values: dict[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Return the figures of nested data as (name, text), with spaces; a list by its length."""
    out: list[tuple[str, str]] = []
    for name, value in values.items():
        label = f"{prefix} {name}".strip().replace("_", " ")
        if isinstance(value, dict):
            out += figures(value, label)
        elif isinstance(value, list):
            out.append((label, f"{len(value)} values"))
        elif isinstance(value, float):
            out.append((label, f"{value:.4g}"))
        else:
            out.append((label, str(value)))
    return out


def add_models(app: FastAPI, page: Page, shelf: ModelShelf) -> None:
    """Add the addresses."""

    @app.get("/api/v1/models")
    def models() -> dict[str, Any]:
        """Return learned models: what they were trained on, are worth, and do in the service.

        ``running`` has, by detector, which model judges, how a shadow judged beside it, and the drift of each
        feature (population stability index).
        """
        return {"models": shelf.models(), "running": shelf.running()}

    @app.get("/models", include_in_schema=False)
    def shown() -> Response:
        text = page.filled("models.html", models=shelf.models(), running=shelf.running(), figures=figures)
        return HTMLResponse(text)
