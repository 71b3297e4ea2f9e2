"""Settings of load management: every mistake is told with its place, and good ones arrive as they are."""

from __future__ import annotations

from pathlib import Path

import pytest

from models.errors import ConfigError
from pipeline import config
from pipeline.load_plan import load_plans, load_policies

GOOD = """
[billing]
time_zone = "Europe/Berlin"
[[load.sites]]
site = "depot"
limit_a = 200.0
demand_limit_kw = 100.0
meter = "main/2"
meter_measures = "grid"
other_worst_a = 50.0
shift = true
[[load.sites.panels]]
name = "hall"
limit_a = 63.0
[[load.sites.stations]]
station = "cs1"
panel = "hall"
wiring = "L2L3L1"
fallback_a = 6.0
[[load.sites.prices]]
hours = "22:00-06:00"
price = 0.12
"""


def mistakes(tmp_path: Path, text: str) -> str:
    path = tmp_path / "c.toml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        config.load(path, {})
    return str(caught.value)


def test_a_site_arrives_as_it_is_written(tmp_path: Path) -> None:
    path = tmp_path / "c.toml"
    path.write_text(GOOD)
    loaded = config.load(path, {})
    site = load_plans(loaded, None)["depot"].settings
    assert [panel.name for panel in site.panels] == ["grid", "hall"]
    assert site.lines() == [(0,), (1, 0)]
    outlet = site.outlet("cs1", 1)
    assert outlet is not None
    assert (outlet.panel, outlet.wiring, outlet.fallback_a) == ("hall", (1, 2, 0), 6.0)
    assert (site.other.station, site.other.evse, site.other.grid) == ("main", 2, True)
    assert site.prices[0].covers(23 * 60)
    assert not site.prices[0].covers(12 * 60)
    assert site.time_zone == "Europe/Berlin"
    (tmp_path / "shown.toml").write_text(config.show(loaded))
    assert config.load(tmp_path / "shown.toml", {}) == loaded


def test_without_sites_nothing_is_managed() -> None:
    assert load_policies(config.load(None, {}), None) == ()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ('panel = "hall"|panel = "hal"', "panel 'hal' is not one of grid, hall"),
        ('name = "hall"|name = "hall"\nparent = "hall"', "hangs from itself"),
        ('"L2L3L1"|"L2L2"', "each phase at most once"),
        ("fallback_a = 6.0|fallback_a = 4.0", "expected 0 (pause) or at least min_a = 6"),
        ("limit_a = 63.0|limit_a = 5.0", "fallbacks add up to 6 A on L1, more than its 5 A"),
        ("demand_limit_kw = 100.0|demand_limit_kw = 200.0", "at most what limit_a carries, 138 kW"),
        ('hours = "22:00-06:00"|hours = "22-6"', "text matching"),
        ('meter = "main/2"|meter = "/"', "STATION or STATION/EVSE"),
        ("shift = true|shfit = true", "a known key"),
        ("shift = true|renew_s = 400.0", "expected less than valid_s = 180"),
    ],
)
def test_mistakes_say_where_and_what(tmp_path: Path, change: str, said: str) -> None:
    before, _, after = change.partition("|")
    assert before in GOOD
    text = mistakes(tmp_path, GOOD.replace(before, after.replace("\\n", "\n"), 1))
    assert said in text
    assert "[load.sites.0" in text


def test_a_site_twice_is_a_mistake(tmp_path: Path) -> None:
    one = '[[load.sites]]\nsite = "a"\nlimit_a = 50.0\n'
    assert "a comes twice" in mistakes(tmp_path, one * 2)
