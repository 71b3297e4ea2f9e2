"""The uploader against influxd behind nginx, and against scripted answers that influxd never gives."""

from __future__ import annotations

import gzip
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from connectors.influx import InfluxSettings, InfluxWriter, RefusedLine, cut_lines
from connectors.influx_server import InfluxServer
from models.errors import ConfigError, DeliveryError, RetryLater
from models.secret import Secret
from tests.servers import free_port, require

T0 = 1_790_000_000_123_456_789


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[InfluxServer]:
    require("influxd")
    require("nginx")
    with InfluxServer(tmp_path_factory.mktemp("influx"), token="s3cret-token-abc") as running:
        yield running


def writer(server: InfluxServer, **settings: Any) -> InfluxWriter:
    base: dict[str, Any] = {"token": Secret(server.token, "env:INFLUX_TOKEN"), "bucket": "ev/autogen"}
    return InfluxWriter(InfluxSettings(server.url, **(base | settings)))


def points(measurement: str, n: int, start: int = 0) -> bytes:
    return b"".join(
        b"%s,k=a v=%d.5 %d\n" % (measurement.encode(), i, T0 + i) for i in range(start, start + n)
    )


def count(server: InfluxServer, measurement: str) -> int:
    rows = server.query(f'SELECT count("v") FROM "{measurement}"')
    return rows[0]["count"] if rows else 0


@pytest.mark.server
@pytest.mark.parametrize("settings", [{}, {"gzip": True}, {"bucket": "ev"}, {"batch_points": 1}])
def test_points_are_stored_to_the_nanosecond(server: InfluxServer, settings: dict[str, Any]) -> None:
    name = "exact_" + "_".join(f"{key}_{value}" for key, value in settings.items()).replace("/", "")
    assert writer(server, **settings).write(points(name, 3)) == []
    assert server.query(f'SELECT "v" FROM "{name}"') == [
        {"time": T0, "v": 0.5},
        {"time": T0 + 1, "v": 1.5},
        {"time": T0 + 2, "v": 2.5},
    ]


@pytest.mark.server
def test_writing_again_changes_nothing(server: InfluxServer) -> None:
    for _ in range(2):
        writer(server, batch_points=7).write(points("again", 100))
    assert count(server, "again") == 100


@pytest.mark.server
def test_only_the_malformed_lines_come_back_with_the_servers_words(server: InfluxServer) -> None:
    good = points("malformed", 200).splitlines(keepends=True)
    bad = [b"no fields here\n", b"malformed,k=a v=1.2.3 5\n"]
    lines = b"".join([*good[:50], bad[0], *good[50:120], bad[1], *good[120:]])
    refused = writer(server).write(lines)
    assert [r.line + b"\n" for r in refused] == bad
    assert refused[0].reason.startswith("400: ")
    assert "unable to parse 'no fields here" in refused[0].reason
    assert count(server, "malformed") == 200


@pytest.mark.server
def test_a_field_of_another_type_is_refused_alone(server: InfluxServer) -> None:
    uploader = writer(server)
    assert uploader.write(points("conflict", 10)) == []
    wrong = b'conflict,k=a v="text" %d\n' % (T0 + 50)
    (refused,) = uploader.write(points("conflict", 5, 20) + wrong + points("conflict", 5, 30))
    assert refused.line + b"\n" == wrong
    assert "partial write: field type conflict" in refused.reason
    assert "already exists as type float" in refused.reason
    assert count(server, "conflict") == 20


@pytest.mark.server
def test_a_batch_refused_as_a_whole_is_not_halved(server: InfluxServer) -> None:
    uploader = writer(server)
    uploader.write(points("whole", 1))
    requests = uploader.requests
    refused = uploader.write(b"".join(b'whole,k=a v="x" %d\n' % (T0 + i) for i in range(64)))
    assert len(refused) == 64
    assert uploader.requests - requests == 1


@pytest.mark.server
@pytest.mark.parametrize(
    ("secret", "named"),
    [
        (Secret("wrong-token-xyz", "env:INFLUX_TOKEN"), "the token from env:INFLUX_TOKEN"),
        (Secret("wrong-token-xyz"), "the token from the configuration"),
        (Secret(), "our request, which carries no token"),
    ],
)
def test_a_refused_token_is_named_not_shown(server: InfluxServer, secret: Secret, named: str) -> None:
    uploader = writer(server, token=secret)
    with pytest.raises(RetryLater) as caught:
        uploader.write(points("token", 2))
    text = str(caught.value)
    assert text == (
        f"InfluxDB at {server.url} refused {named} (401: unauthorized access): set influx.token to one that "
        "may write to bucket ev/autogen. Points wait in the outbox, none is lost"
    )
    assert caught.value.delay_s == 15.0
    assert "xyz" not in text + repr(uploader) + repr(uploader.settings)


@pytest.mark.server
def test_a_token_file_is_read_again_when_the_token_is_refused(server: InfluxServer, tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("old")
    uploader = writer(server, token=Secret("old", f"file:{file}"))
    with pytest.raises(RetryLater, match="refused the token from file:"):
        uploader.write(points("exchanged", 2))
    file.write_text(f"{server.token}\n")
    with pytest.raises(RetryLater):
        uploader.write(points("exchanged", 2))
    assert uploader.write(points("exchanged", 2)) == []
    assert count(server, "exchanged") == 2


@pytest.mark.server
def test_an_unknown_database_is_waited_for(server: InfluxServer) -> None:
    uploader = writer(server, bucket="nowhere/autogen")
    with pytest.raises(RetryLater, match=r"no bucket or database nowhere/autogen \(404: database not found"):
        uploader.write(points("later", 2))
    server.query('CREATE DATABASE "nowhere"')
    assert uploader.write(points("later", 2)) == []
    assert server.query('SELECT count("v") FROM "later"', "nowhere")[0]["count"] == 2


@pytest.mark.server
def test_nothing_is_lost_or_doubled_when_influxd_is_killed_while_writing(tmp_path: Path) -> None:
    require("influxd")
    require("nginx")
    n = 20_000
    with InfluxServer(tmp_path / "influx") as own:
        uploader = writer(own, batch_points=200, timeout_s=2)
        seen: list[str] = []

        def upload() -> None:
            for piece in cut_lines(points("kill_test", n), 200):
                while True:
                    try:
                        assert uploader.write(piece) == []
                        break
                    except RetryLater as error:
                        seen.append(str(error))
                        time.sleep(0.02)

        thread = threading.Thread(target=upload)
        thread.start()
        for _ in range(2):
            while thread.is_alive() and uploader.requests < 5:
                time.sleep(0.001)
            own.kill()
            time.sleep(0.15)
            own.restart()
        thread.join(60)
        assert not thread.is_alive()
        assert any("cannot take points now (502" in text for text in seen)
        rows = own.query('SELECT "v" FROM "kill_test"')
        assert [row["time"] for row in rows] == list(range(T0, T0 + n))


class Scripted:
    """A server that gives the answers of a list, then 204, and keeps what it was sent."""

    def __init__(self, *answers: tuple[int, dict[str, str], bytes]) -> None:
        self.answers = list(answers)
        self.bodies: list[bytes] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if self.headers.get("Content-Encoding") == "gzip":
                    body = gzip.decompress(body)
                outer.bodies.append(body)
                status, headers, text = outer.answers.pop(0) if outer.answers else (204, {}, b"")
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

            def log_message(self, *args: Any) -> None:
                pass

        self.http = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}"
        self.thread = threading.Thread(target=self.http.serve_forever, kwargs={"poll_interval": 0.01})

    def __enter__(self) -> Scripted:
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.http.shutdown()
        self.thread.join()
        self.http.server_close()


def scripted_writer(stub: Scripted, **settings: Any) -> InfluxWriter:
    return InfluxWriter(InfluxSettings(stub.url, "ev", Secret("t"), **settings))


@pytest.mark.parametrize(
    ("status", "headers", "body", "message", "delay_s"),
    [
        (503, {"Retry-After": "7"}, b'{"code":"unavailable","message":"busy"}', r"now \(503: busy\)", 7.0),
        (429, {"Retry-After": "99999"}, b"slow down", r"now \(429: slow down\)", 3600.0),
        (429, {"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT"}, b"", r"now \(429", 0.0),
        (500, {"Retry-After": "soon"}, b"", r"now \(500", None),
        (403, {}, b'{"message":"no write"}', r"refused the token .*403: no write", 15.0),
        (405, {}, b"<html><head>no</head>\n<h1>nope</h1></html>", r"an InfluxDB \(405: nope\)", 15.0),
        (302, {"Location": "/login"}, b"", r"not expected of an InfluxDB \(302", 15.0),
        (500, {}, b"\xff\xfe", "bytes that are no text", 15.0),
    ],
)  # fmt: skip
def test_answers_that_put_a_batch_off(
    status: int, headers: dict[str, str], body: bytes, message: str, delay_s: float | None
) -> None:
    with Scripted((status, headers, body)) as stub:
        uploader = scripted_writer(stub)
        with pytest.raises(RetryLater, match=message) as caught:
            uploader.write(b"m v=1 1\n")
        assert caught.value.delay_s == delay_s
        assert uploader.write(b"m v=1 1\n") == []
        uploader.close()
    assert stub.bodies == [b"m v=1 1\n"] * 2


def test_a_batch_too_large_for_the_server_is_halved_not_refused() -> None:
    with Scripted((413, {}, b"too large")) as stub:
        assert scripted_writer(stub).write(b"m v=1 1\nm v=2 2\nm v=3 3\n") == []
    assert stub.bodies[1:] == [b"m v=1 1\n", b"m v=2 2\nm v=3 3\n"]


def test_line_by_line_words_of_influxdb_3_are_kept() -> None:
    told = b'{"error":"partial write","data":[{"line_number":1,"error_message":"bad type"}]}'
    with Scripted((400, {}, told)) as stub:
        (refused,) = scripted_writer(stub, gzip=True).write(b"m v=1 1\n")
    assert refused == RefusedLine(
        b"m v=1 1", '400: partial write [{"line_number": 1, "error_message": "bad type"}]'
    )
    assert stub.bodies == [b"m v=1 1\n"]


def test_a_server_that_is_not_there() -> None:
    uploader = InfluxWriter(InfluxSettings(f"http://127.0.0.1:{free_port()}", "ev"))
    with pytest.raises(RetryLater, match=r"cannot be reached \(.*refused.*\): check influx.url"):
        uploader.write(b"m v=1 1\n")


def test_a_server_that_does_not_answer_in_time() -> None:
    import socket

    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        settings = InfluxSettings(f"http://127.0.0.1:{silent.getsockname()[1]}", "ev", timeout_s=0.2)
        with pytest.raises(RetryLater, match=r"cannot be reached \(.*timed out"):
            InfluxWriter(settings).write(b"m v=1 1\n")


def test_lines_are_cut_at_their_ends() -> None:
    lines = b"".join(b"line %d\n" % i for i in range(10))
    assert list(cut_lines(lines, 4)) == [lines[:28], lines[28:56], lines[56:]]
    assert list(cut_lines(b"a\nb", 1)) == [b"a\n", b"b"]
    assert list(cut_lines(b"", 4)) == []
    assert b"".join(cut_lines(lines, 3)) == lines


@pytest.mark.parametrize("bucket", ["", "a b", "a/b/c", "ev%2Fx", "/x"])
def test_bucket_names_that_not_every_influxdb_takes(bucket: str) -> None:
    with pytest.raises(ConfigError, match="expected database or database/policy"):
        InfluxSettings("http://127.0.0.1:1", bucket)


def test_a_missing_program_is_named_with_its_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("connectors.influx_server.find_program", lambda _: None)
    with pytest.raises(DeliveryError, match="influxd and nginx not installed; install the Debian packages"):
        InfluxServer(tmp_path).start()


@pytest.mark.server
def test_a_refused_query_says_why(server: InfluxServer) -> None:
    with pytest.raises(DeliveryError, match="error parsing query"):
        server.query("SELEKT 1")
