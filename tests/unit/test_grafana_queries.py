"""Every query of every dashboard, expanded as Grafana does, against a real influxd with a week of data."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest
import urllib3

from connectors.influx import InfluxSettings, InfluxWriter
from connectors.influx_server import InfluxServer
from models.secret import Secret
from tests.servers import require

from . import _grafana as g
from . import _grafana_seed as seed

pytestmark = pytest.mark.server
QUERIES = list(g.queries())
ALL = ".*"
EVERYWHERE: dict[str, Any] = dict.fromkeys(("site", "station", "evse", "component", "part", "campaign"), ALL)
SOME: dict[str, Any] = {
    "site": ["north", "süd/2"],
    "station": ["N.1", "S(1)"],
    "evse": ["1", "2"],
    "component": ["influx", "ledger"],
    "part": ["worker-0", "worker-1"],
    "campaign": ["winter-2", "pilot"],
}
ONE: dict[str, Any] = {name: [values[0]] for name, values in SOME.items()}
FINE = {"rollup": "1m", "per": "15m"}
COARSE = {"rollup": "15m", "per": "1d"}
CASES = {
    "hours, everything": (EVERYWHERE | FINE, 6 * seed.HOUR_MS),
    "hours, some": (SOME | FINE, 6 * seed.HOUR_MS),
    "hours, one": (ONE | FINE, 6 * seed.HOUR_MS),
    "week, everything": (EVERYWHERE | COARSE, 7 * seed.DAY_MS),
    "week, some": (SOME | COARSE, 7 * seed.DAY_MS),
}
N_STATIONS = sum(len(stations) for stations in seed.SITES.values())


class Store(NamedTuple):
    """A server with the points in it, and the moment they end."""

    server: InfluxServer
    now_ms: int

    def rows(self, query: g.Query, case: str) -> list[dict[str, Any]]:
        """Return what the query gives over the range that ends now."""
        scope, span_ms = CASES[case]
        return self.server.query(g.expanded(query, scope, self.now_ms - span_ms, self.now_ms))

    def value(self, dashboard: str, place: str, column: str, case: str = "hours, everything") -> Any:
        """Return the last value of a column."""
        (query,) = [q for q in QUERIES if q.dashboard == dashboard and q.place == place]
        return [row[column] for row in self.rows(query, case) if row[column] is not None][-1]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    require("influxd")
    require("nginx")
    with InfluxServer(tmp_path_factory.mktemp("grafana")) as server:
        now_ms = time.time_ns() // 1_000_000
        writer = InfluxWriter(InfluxSettings(server.url, "ev/autogen", Secret(server.token)))
        for piece in seed.lines(now_ms):
            assert writer.write(piece) == []
        writer.close()
        yield Store(server, now_ms)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("query", QUERIES, ids=str)
def test_every_query_returns_rows(store: Store, query: g.Query, case: str) -> None:
    rows = store.rows(query, case)
    values = [v for row in rows for k, v in row.items() if k not in {"time", *seed.TAGS} and v is not None]
    assert values, g.expanded(query, *_range(store, case))
    if query.kind in {"series", "table", "annotation"}:
        assert all("time" in row for row in rows)


def _range(store: Store, case: str) -> tuple[Any, int, int]:
    scope, span_ms = CASES[case]
    return scope, store.now_ms - span_ms, store.now_ms


def column(store: Store, dashboard: str, place: str, name: str, case: str = "hours, everything") -> list[Any]:
    """Return all values of a column but the absent ones."""
    (query,) = [q for q in QUERIES if q.dashboard == dashboard and q.place == place]
    return [row[name] for row in store.rows(query, case) if row[name] is not None]


def test_numbers_of_the_fleet_are_right(store: Store) -> None:
    assert store.value("fleet", "Power now A", "power") == N_STATIONS * sum(seed.POWER_W)
    assert store.value("fleet", "Charging now A", "evses") == N_STATIONS
    assert store.value("fleet", "Reporting now A", "evses") == 2 * N_STATIONS
    total = column(store, "fleet", "Total power A", "power")[:-2]
    assert set(total) == {N_STATIONS * sum(seed.POWER_W)}
    assert set(column(store, "fleet", "EVSEs charging and reporting A", "charging")[1:-2]) == {N_STATIONS}


def test_the_sites_table_has_a_row_a_site(store: Store) -> None:
    for ref, name, each in (
        ("A", "power", 2 * sum(seed.POWER_W)),
        ("A", "reporting", 4),
        ("B", "charging", 2),
    ):
        (query,) = [q for q in QUERIES if (q.dashboard, q.place) == ("fleet", f"Sites {ref}")]
        rows = store.rows(query, "week, everything")
        assert {row["site"]: row[name] for row in rows} == dict.fromkeys(seed.SITES, each)


def test_open_findings_are_live_and_not_cleared(store: Store) -> None:
    for severity, fleet, station in (("critical", 2, 1), ("warning", 1, 1), ("info", 1, 1)):
        assert store.value("fleet", f"Open: {severity} A", "findings") == fleet
        assert store.value("station", f"Open: {severity} A", "findings", "hours, one") == station
    (query,) = [q for q in QUERIES if (q.dashboard, q.place) == ("fleet", "Sites D")]
    found = {row["site"]: row["findings"] for row in store.rows(query, "hours, everything")}
    assert found == {"north": 3, "süd/2": 1}


def test_mean_times_of_faults_are_right(store: Store) -> None:
    assert store.value("faults", "Mean time to detect A", "mean") == 30_000
    assert store.value("faults", "Mean time to acknowledge A", "mean") == 600
    assert store.value("faults", "Raised A", "raised") == 4
    (query,) = [q for q in QUERIES if (q.dashboard, q.place) == ("faults", "By code A")]
    raised = {row["code"]: row["raised"] for row in store.rows(query, "hours, everything")}
    assert raised["under_voltage"] == 1
    assert "offline" not in raised, "planned"


def test_finding_changes_come_latest_first_with_their_places(store: Store) -> None:
    (query,) = [q for q in QUERIES if (q.dashboard, q.place) == ("fleet", "Latest finding changes A")]
    rows = store.rows(query, "hours, everything")
    assert len(rows) == len(seed.findings(store.now_ms))
    assert [row["time"] for row in rows] == sorted((row["time"] for row in rows), reverse=True)
    (site,) = [row for row in rows if row["code"] == "site_power_event"]
    assert (site["site"], site["station"], site["evse"], site["severity"]) == ("süd/2", "-", "-", "critical")
    assert site["evidence"] == '{"limit_v":207.0,"voltage_l1_v":201.2}'


def test_a_bar_of_energy_is_whole_quarter_hours(store: Store) -> None:
    quarter_wh = seed.QUARTER_MWH / 1000
    (query,) = [q for q in QUERIES if (q.dashboard, q.place) == ("fleet", "Energy per $per A")]
    rows = [row for row in store.rows(query, "hours, everything") if row["energy"] is not None]
    assert {row["energy"] for row in rows} == {2 * len(seed.EVSES) * quarter_wh}
    assert len(rows) < 2 * 24  # quarters of quality missing are absent, not 0
    days = column(store, "station", "Energy per $per A", "energy", "week, everything")
    assert max(days) == 96 * 7 / 8 * quarter_wh


def test_counts_by_quality_are_complete(store: Store) -> None:
    found = {
        quality: sum(
            column(store, "fleet", f"Quarter hours by quality {ref}", "quarters", "week, everything")
        )
        for ref, quality in zip("ABCD", ("measured", "interpolated", "estimated", "missing"), strict=True)
    }
    assert sum(found.values()) == 2 * N_STATIONS * (7 * 96 - 1)  # the running quarter is not there yet
    assert found["measured"] > sum(found.values()) / 2
    assert min(found.values()) > 0


def test_choices_depend_on_each_other_and_know_no_account(store: Store) -> None:
    def values(dashboard: str, name: str, case: str) -> list[str]:
        return sorted(column(store, dashboard, f"variable {name}", "value", case))

    assert values("fleet", "site", "hours, everything") == sorted(seed.SITES)
    assert values("station", "station", "hours, one") == sorted(seed.SITES["north"])
    assert values("station", "station", "hours, some") == sorted(sum(seed.SITES.values(), ()))
    assert values("station", "evse", "hours, one") == ["1", "2"]
    assert values("pipeline", "component", "hours, everything") == ["influx", "ledger", "mqtt"]
    assert values("pipeline", "part", "hours, everything") == ["worker-0", "worker-1"]


def test_health_is_summed_over_outboxes_and_survives_a_restart(store: Store) -> None:
    assert store.value("pipeline", "Messages unaccounted for A", "unaccounted") == 0
    assert store.value("pipeline", "Readings unaccounted for A", "unaccounted") == 0
    assert store.value("pipeline", "Newest message accounted for A", "age") == 1.5
    assert store.value("pipeline", "Waiting to be delivered A", "records") == 3 * 2 * 5
    assert store.value("pipeline", "Dead letters kept A", "letters") == 3 + 0 + 1
    assert set(column(store, "pipeline", "Waiting records A", "value")) == {10}
    rates = column(store, "pipeline", "Deliveries A", "rate")
    assert max(rates) == pytest.approx(4.0)  # 20 records in 10 s from each of two outboxes
    assert min(rates) >= 0  # the counters begin again in the middle of the hour
    assert max(column(store, "pipeline", "Messages by fate A", "rate")) == pytest.approx(10.0)
    assert set(column(store, "pipeline", "The account A", "account")) == {True}


def test_annotations_mark_live_findings_of_the_station(store: Store) -> None:
    codes = column(store, "station", "annotation Findings", "code", "hours, one")
    assert sorted(set(codes)) == ["connector_over_temperature", "offline", "over_current", "under_voltage"]


def test_the_data_source_file_reaches_the_server_as_grafana_asks(store: Store) -> None:
    """Grafana's request, made from the provisioning file: GET, milliseconds, the token in a header."""
    environment = {
        "INFLUX_URL": store.server.url,
        "INFLUX_DATABASE": "ev",
        "INFLUX_TOKEN": store.server.token,
    }
    (source,) = g.provisioning("datasources", environment)["datasources"]
    text = 'SELECT last("closes") AS "closes" FROM "ev_pipeline"'

    def ask(token: str) -> tuple[int, str]:
        answer = urllib3.request(
            source["jsonData"]["httpMode"],
            f"{source['url']}/query",
            fields={"db": source["jsonData"]["dbName"], "epoch": "ms", "q": text},
            headers={source["jsonData"]["httpHeaderName1"]: token},
            retries=False,
        )
        return answer.status, answer.data.decode()

    status, body = ask(source["secureJsonData"]["httpHeaderValue1"])
    assert status == 200
    assert '"columns":["time","closes"]' in body
    assert ask("Token of somebody else")[0] == 401
