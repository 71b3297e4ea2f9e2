"""Pages of their own, beside the live page: maintenance, analytics, learned models."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fastapi import FastAPI

from connectors.analytics_reader import AnalyticsReader
from connectors.maintenance_reader import MaintenanceReader
from connectors.operator import OperatorDesk
from models.evidence import Ask, Trace
from models.maintenance import MaintenanceConfig

from .analytics import add_analytics
from .auth import Gate
from .learned import LearnedSettings, ModelShelf, add_models
from .maintenance import add_maintenance
from .page import Page


@dataclass(frozen=True, slots=True)
class ViewSettings:
    """What these pages are told of the outside.

    Attributes
    ----------
    maintenance : MaintenanceConfig
        By what EVSEs are judged.
    journal : callable, optional
        Reads the channels around a finding, in full detail; None when it no longer has that time.
    detectors : dict
        Detector name -> its settings, where they are not the defaults.
    learned : tuple of LearnedSettings
        Learned detectors that have a folder of models.
    """

    maintenance: MaintenanceConfig = field(default_factory=MaintenanceConfig)
    journal: Callable[[Ask], list[Trace] | None] | None = None
    detectors: dict[str, Any] = field(default_factory=dict)
    learned: tuple[LearnedSettings, ...] = ()


def add_views(
    app: FastAPI, page: Page, settings: ViewSettings, data_dir: Path, desk: OperatorDesk | None, gate: Gate
) -> None:
    """Add the addresses; without a desk nothing can be recorded."""
    add_maintenance(app, page, MaintenanceReader(page.ledger, settings.maintenance), desk, gate)
    add_analytics(app, page, AnalyticsReader(page.ledger))
    add_models(app, page, ModelShelf(settings.learned, data_dir))
