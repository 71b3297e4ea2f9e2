"""Every finding code that something raises has a page, and its page says what the code does."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from models import plugins
from models.faults import EVEREST, FAULTS, MREC, OCPP2_TRIGGERS, OCPP16

from ._tree import ROOT

FOLDER = ROOT / "docs" / "faults"
PACKAGE = "models.detectors"
HEADINGS = [
    "## What it means",
    "## Physics",
    "## Evidence shown",
    "## False-alarm traps",
    "## What the technician does",
    "## Thresholds",
]
PLUGINS = plugins.names(PACKAGE)
#: Codes that only stations report, once every detector is there: what the event map names and no file serves.
REPORTED = {*MREC.values(), *OCPP16.values(), *OCPP2_TRIGGERS.values(), *(ours for _, _, ours in EVEREST)}
EVENT_ONLY = ["ev_communication", "lock_failure", "sub_device"]
PAGES = sorted(page.stem for page in FOLDER.glob("*.md"))


def _text(code: str) -> str:
    return (FOLDER / f"{code}.md").read_text(encoding="utf-8")


def _sections(text: str) -> dict[str, str]:
    parts = re.split(r"^(## .*)$", text, flags=re.MULTILINE)
    return {heading: body.strip() for heading, body in zip(parts[1::2], parts[2::2], strict=True)}


def test_every_detector_and_every_event_only_code_has_a_page() -> None:
    assert set(EVENT_ONLY) <= REPORTED
    codes = [plugins.load(PACKAGE, name).SPEC.code for name in PLUGINS]
    assert [code for code in [*codes, *EVENT_ONLY] if code not in PAGES] == []


def test_no_page_is_about_something_else() -> None:
    assert [page for page in PAGES if page not in FAULTS] == []


@pytest.mark.parametrize("code", PAGES)
def test_page_has_its_title_and_six_parts_in_order(code: str) -> None:
    text = _text(code)
    assert text.splitlines()[0] == f"# {code}: {FAULTS[code].title}"
    sections = _sections(text)
    assert list(sections) == HEADINGS
    assert all(len(body) >= 60 for body in sections.values())


@pytest.mark.parametrize("code", PAGES)
def test_thresholds_are_those_of_the_configuration(code: str) -> None:
    """A code that no file serves is set where station events are."""
    module = plugins.load(PACKAGE, code if code in PLUGINS else "station_reported")
    table = _sections(_text(code))["## Thresholds"]
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines() if "|" in line
    ]
    assert rows[0] == ["name", "default", "unit", "source"]
    shown = {name.strip("`"): (default.strip("`"), unit, source) for name, default, unit, source in rows[2:]}
    assert list(shown) == [field.name for field in fields(module.Config)]
    for field in fields(module.Config):
        default, unit, source = shown[field.name]
        assert _value(default, field.default) == field.default, field.name
        assert unit, field.name
        assert source, field.name


def _value(text: str, like: Any) -> Any:
    """Return a default as the page writes it; text and truth values as they are spelled."""
    if like == "" and text == "none":
        return ""
    if isinstance(like, bool) or not isinstance(like, int | float):
        return like if text == str(like) else text
    return type(like)(text)


@pytest.mark.parametrize("code", PAGES)
def test_links_of_a_page_lead_somewhere(code: str) -> None:
    targets = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", _text(code))
    assert [t for t in targets if not Path(FOLDER / t).exists()] == []
