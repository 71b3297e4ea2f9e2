"""Energy prices from files and servers: the recorded answers of each source, and answers gone wrong."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import pytest

from connectors.prices import fetch_prices, read_price_files, read_prices
from models.errors import ConfigError, Refused, RetryLater
from models.market_prices import QUARTER_MS
from models.tariffs import TariffError

from .test_dynamic_tariffs import START

GOLDEN = Path(__file__).parent.parent / "golden" / "prices"
FOUR = [Decimal("0.0861"), Decimal("-0.0042"), Decimal("0.11235"), Decimal("0.131")]


@pytest.mark.parametrize("name", ["day_ahead.csv", "tibber.json"])
def test_four_quarters_of_each_source(name: str) -> None:
    made = read_price_files([GOLDEN / name])
    assert [s.price for s in made.slots] == FOUR
    assert [s.start_ms for s in made.slots] == [START + i * QUARTER_MS for i in range(4)]
    assert {s.end_ms - s.start_ms for s in made.slots} == {QUARTER_MS}
    assert made.currency == "EUR"


def test_entsoe_leaves_repeated_prices_out() -> None:
    made = read_price_files([GOLDEN / "entsoe.xml"])
    assert [s.price for s in made.slots] == [*FOUR[:3], FOUR[2], FOUR[3]]
    assert made.slots[0].start_ms == START
    assert made.slots[-1].end_ms == START + 5 * QUARTER_MS


def test_awattar_says_how_long_a_price_holds() -> None:
    made = read_price_files([GOLDEN / "awattar.json"])
    assert [(s.end_ms - s.start_ms) // QUARTER_MS for s in made.slots] == [4, 4, 1]
    assert [s.price for s in made.slots] == FOUR[:3]


def test_the_same_prices_have_the_same_version() -> None:
    one, other = (read_price_files([GOLDEN / name]) for name in ("day_ahead.csv", "tibber.json"))
    assert one.version == other.version
    assert one.version != read_price_files([GOLDEN / "entsoe.xml"]).version


def test_csv_spellings() -> None:
    cases = {
        b"start,end,price_eur_mwh\n1000,2000,5\n": (Decimal("0.005"), "EUR"),
        b"start,end,price,currency\n1000,2000,0.5,SEK\n": (Decimal("0.5"), "SEK"),
        b"\xef\xbb\xbfstart,end,price,unit\n1970-01-01T00:00:01Z,1970-01-01T00:00:02Z,7,ct/kWh\n": None,
    }
    for text, expected in cases.items():
        if expected is None:
            with pytest.raises(TariffError, match="expected one such as EUR/MWh"):
                read_prices(text, "x")
            continue
        made = read_prices(text, "x")
        assert (made.slots[0].price, made.currency) == expected
        assert made.slots[0].end_ms == 2000


def test_a_gap_stays_a_gap() -> None:
    made = read_prices(b"start,price,unit\n0,1,EUR/kWh\n900000,2,EUR/kWh\n7200000,3,EUR/kWh\n", "x")
    assert made.at(1_799_999) is not None
    assert made.at(1_800_000) is None


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"", "no prices"),
        (b"a,b\n1,2\n", "expected start, price"),
        (b"start,price,unit\n2026-01-01T00:00:00,1,EUR/MWh\n", "no offset from UTC"),
        (b"start,price,unit\n0,1,EUR/MWh\n", "how long its price holds"),
        (b"start,price,unit\n0,x,EUR/MWh\n900000,1,EUR/MWh\n", "not of the shape csv"),
        (b'{"data": [{"start_timestamp": 1}]}', "not of the shape awattar"),
        (b'{"errors": [{"message": "invalid token"}]}', "invalid token"),
        (b'{"data": {}}', "not of the shape tibber"),
        (b"<a", "not of the shape entsoe"),
        (b'<!DOCTYPE x [<!ENTITY e "e">]><x>&e;</x>', "refused"),
        (b"<Acknowledgement_MarketDocument><Reason><text>No matching data</text></Reason>"
         b"</Acknowledgement_MarketDocument>", "No matching data"),
    ],
)  # fmt: skip
def test_what_is_no_price_list_says_why(text: bytes, words: str) -> None:
    with pytest.raises(TariffError, match=words):
        read_prices(text, "source")


def test_files_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        read_price_files([tmp_path / "none.csv"])


@pytest.fixture
def server() -> Iterator[str]:
    """Answer with the recorded files; /busy and /wrong fail; a body is expected by POST."""

    class Answer(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            name = self.path.lstrip("/")
            known = GOLDEN / name
            status = {"busy": 503, "wrong": 401}.get(name, 200 if known.is_file() else 404)
            self.send_response(status)
            self.end_headers()
            self.wfile.write(known.read_bytes() if status == 200 else b"no")

        def do_POST(self) -> None:
            asked = self.rfile.read(int(self.headers["content-length"]))
            assert b"priceInfo" in asked
            assert self.headers["authorization"] == "Bearer t"
            self.do_GET()

        def log_message(self, *args: object) -> None:
            """Say nothing."""

    made = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{made.server_port}"
    made.shutdown()
    thread.join()
    made.server_close()


def test_prices_over_http(server: str) -> None:
    assert [s.price for s in fetch_prices(f"{server}/awattar.json").slots] == FOUR[:3]
    assert len(fetch_prices(f"{server}/entsoe.xml").slots) == 5
    asked = fetch_prices(f"{server}/tibber.json", body=b"{priceInfo}", headers={"authorization": "Bearer t"})
    assert len(asked.slots) == 4
    with pytest.raises(RetryLater, match="503"):
        fetch_prices(f"{server}/busy")
    with pytest.raises(Refused, match="401"):
        fetch_prices(f"{server}/wrong")
    with pytest.raises(RetryLater, match="no answer"):
        fetch_prices("http://127.0.0.1:9/", timeout_s=1)
