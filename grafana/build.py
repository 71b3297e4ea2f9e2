"""Writes the dashboards: ``python -m grafana.build``.

A dashboard is a function in a file of its own and a line in `DASHBOARDS`. The JSON files are checked in, so
that Grafana needs nothing of this; a test compares them with what is written here.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from grafana_foundation_sdk.builders.dashboard import Dashboard
from grafana_foundation_sdk.cog.encoder import JSONEncoder

from ._billing import billing
from ._campaigns import campaigns
from ._faults import faults
from ._fleet import fleet
from ._load import load
from ._pipeline import pipeline
from ._station import station

FOLDER: Final = Path(__file__).parent / "dashboards"
DASHBOARDS: Final[Mapping[str, Callable[[], Dashboard]]] = {
    "fleet": fleet,
    "station": station,
    "billing": billing,
    "faults": faults,
    "load": load,
    "pipeline": pipeline,
    "campaigns": campaigns,
}


def render(name: str) -> str:
    """Return the JSON text of a dashboard; the same text every time."""
    return json.dumps(DASHBOARDS[name]().build(), cls=JSONEncoder, indent=2, ensure_ascii=False) + "\n"


def main() -> None:
    """Write every dashboard and say where."""
    for name in DASHBOARDS:
        path = FOLDER / f"{name}.json"
        path.write_text(render(name), encoding="utf-8")
        sys.stdout.write(f"{path.relative_to(FOLDER.parent.parent)}\n")


if __name__ == "__main__":
    main()
