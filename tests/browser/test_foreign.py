"""What another page makes a reader's browser do: nothing, whatever name it gives our address."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from connectors.api.settings import ApiSettings
from connectors.ledger import Ledger
from connectors.mqtt_settings import MqttSettings
from tests.servers import require
from tests.servers.web import served

from .chromium import Tab, chromium

FORM = """<form method=post action="{}/maintenance"><input name=site value=a><input name=station value=b>
<input name=by value=x><input name=what value=cleaned></form>"""


class _Evil(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(b"<title>evil</title>")

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def tab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tab]:
    rules = "--host-resolver-rules=MAP *.example 127.0.0.1"
    with chromium(require("chromium"), tmp_path_factory.mktemp("browser") / "profile", rules) as opened:
        yield opened


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    ledger = f"sqlite:///{tmp_path / 'ledger.sqlite'}"
    Ledger(ledger).close()
    nowhere = MqttSettings("127.0.0.1", 1, "x", connect_timeout_s=0.2)
    with served(ledger, tmp_path, broker=nowhere, settings=ApiSettings(names=("depot.example",))) as opened:
        yield opened


@pytest.fixture
def evil() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Evil)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://evil.example:{server.server_port}"
    server.shutdown()
    server.server_close()


def sent(tab: Tab, form: str) -> str:
    """Send a form from the page that is open; return what the answer's page says."""
    tab.js(f"document.body.innerHTML = {form!r}; document.forms[0].submit()".replace("\n", " "))
    there = "document.title != 'evil' && !document.forms.length && document.body"
    return str(tab.until(f"{there} && document.body.innerText"))


@pytest.mark.server
def test_a_form_of_another_page_is_refused_and_one_of_ours_is_not(tab: Tab, address: str, evil: str) -> None:
    for name in ("127.0.0.1", "localhost", "depot.example"):
        ours = address.replace("127.0.0.1", name)
        tab.call("Page.navigate", url=evil)
        tab.until("document.title == 'evil'")
        assert "comes from another page" in sent(tab, FORM.format(ours)), name
        tab.call("Page.navigate", url=f"{ours}/static/page.css")
        tab.until("location.pathname == '/static/page.css' && document.readyState == 'complete'")
        said = sent(tab, FORM.format(""))
        # Its own form goes as far as the broker, or is told to bring a token: under a name that is not local.
        assert ("token create" if name == "depot.example" else "broker") in said, (name, said)


@pytest.mark.server
def test_a_page_that_rebinds_its_name_reads_nothing(tab: Tab, address: str) -> None:
    tab.call("Page.navigate", url=address.replace("127.0.0.1", "rebound.example") + "/live")
    assert "nothing is served here under the name" in str(
        tab.until("document.body && document.body.innerText")
    )
    assert "nothing is served here" in str(tab.js("fetch('/api/v1/findings').then(a => a.text())"))
