"""Downloads with real clients: ranges, resumed, tags, signed addresses, pace, back-off."""

from __future__ import annotations

import http.client
import logging
import random
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
import uvicorn

from connectors.firmware_http import FirmwareServer
from connectors.firmware_pace import Doorkeeper, TokenBucket
from models.firmware import FirmwareError, Image
from models.firmware_urls import Grant, query_of, read_grant, url_of
from models.secret import Secret
from tests.servers.ingesting import wait_for

from ._firmware_repo import DATA, Kept, now_ms

SECRET = Secret("s" * 40)
OLD = Secret("o" * 40)
HOUR_MS = 3_600_000


class Served:
    """A server on 127.0.0.1 with one image."""

    def __init__(self, folder: Path) -> None:
        self.kept = Kept(folder)
        self.image: Image = self.kept.add()
        self.pace = TokenBucket(0, 0)
        self.door = Doorkeeper(3, 100_000, 5, rng=random.Random(1))
        self.shed: list[tuple[str, int]] = []
        self.withdrawn: list[tuple[str, str, str]] = []
        self.server = FirmwareServer(
            self.kept.store(),
            (SECRET, OLD),
            self.pace,
            self.door,
            lambda g, s: self.shed.append((g.station, s)),
            withdrawn=lambda g, why: self.withdrawn.append((g.campaign, g.station, why)),
        )
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.base = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        self._uvicorn = uvicorn.Server(uvicorn.Config(self.server.app(), log_config=None, lifespan="off"))
        self._thread = threading.Thread(target=self._uvicorn.run, kwargs={"sockets": [self._socket]})
        self._thread.start()
        self.client = httpx.Client(timeout=10)
        wait_for(lambda: self._uvicorn.started, "the server")

    def close(self) -> None:
        self.client.close()
        self._uvicorn.should_exit = True
        self._thread.join(10)
        self._socket.close()

    def url(
        self, *, secret: Secret = SECRET, station: str = "CP1", expires_ms: int = 0, image: str = ""
    ) -> str:
        grant = Grant(image or self.image.image_id, "c-1", "S", station, expires_ms or now_ms() + HOUR_MS)
        return url_of(self.base, grant, secret)


@pytest.fixture(scope="module")
def module_served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    made = Served(tmp_path_factory.mktemp("served"))
    yield made
    made.close()


@pytest.fixture
def served(module_served: Served) -> Served:
    counts = module_served.server.counts  # what the test before broke off may end a moment later
    wait_for(lambda: counts.started == counts.completed + counts.broken, "the end of earlier downloads")
    counts.__init__()  # type: ignore[misc]  # every test counts from nothing
    return module_served


def test_a_whole_image(served: Served) -> None:
    answer = served.client.get(served.url())
    assert (answer.status_code, answer.content) == (200, DATA)
    assert answer.headers["etag"] == f'"{served.image.sha256}"'
    assert answer.headers["accept-ranges"] == "bytes"
    assert answer.headers["content-length"] == str(len(DATA))
    head = served.client.head(served.url())
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-length"] == str(len(DATA))
    wait_for(lambda: served.server.counts.completed == 1, "the count")
    assert served.server.counts.sent_bytes == len(DATA)
    assert served.client.get(f"{served.base}/health").json() == {"well": True}
    assert served.client.post(served.url()).status_code == 405


def test_ranges(served: Served) -> None:
    size = len(DATA)
    for text, start, stop in (
        ("bytes=0-0", 0, 1),
        ("bytes=100-299", 100, 300),
        ("bytes=199000-", 199_000, size),
        ("bytes=-500", size - 500, size),
        ("bytes=-999999999", 0, size),
        ("bytes=5-999999999", 5, size),
    ):
        answer = served.client.get(served.url(), headers={"Range": text})
        assert answer.status_code == 206, text
        assert answer.content == DATA[start:stop], text
        assert answer.headers["content-range"] == f"bytes {start}-{stop - 1}/{size}"
    for text in (f"bytes={size}-", "bytes=5-4", "bytes=-0", "bytes=-", "bytes=a-b", "bytes=0-1,5-9"):
        answer = served.client.get(served.url(), headers={"Range": text})
        assert answer.status_code == 416, text
        assert answer.headers["content-range"] == f"bytes */{size}"
    assert served.client.get(served.url(), headers={"Range": "lines=1-2"}).content == DATA


def test_tags_and_conditions(served: Served) -> None:
    tag = f'"{served.image.sha256}"'
    for none_match in (tag, f'"x", {tag}', f"W/{tag}", "*"):
        answer = served.client.get(served.url(), headers={"If-None-Match": none_match})
        assert (answer.status_code, answer.content, answer.headers["etag"]) == (304, b"", tag)
    assert served.client.get(served.url(), headers={"If-None-Match": '"x"'}).status_code == 200
    part = {"Range": "bytes=10-19"}
    assert served.client.get(served.url(), headers=part | {"If-Range": tag}).content == DATA[10:20]
    for other in ('"x"', "Tue, 24 Nov 2026 08:30:00 GMT"):
        assert served.client.get(served.url(), headers=part | {"If-Range": other}).content == DATA
    assert served.client.get(served.url(), headers=part | {"If-Match": '"x"'}).status_code == 412
    assert served.client.get(served.url(), headers=part | {"If-Match": tag}).status_code == 206


def test_a_download_that_breaks_off_is_resumed(served: Served) -> None:
    """As a station does it: connection lost in the middle, several times, then on with If-Range."""
    parts = urlsplit(served.url())
    got, tag, rng = bytearray(), "", random.Random(7)
    tries = 0
    while len(got) < len(DATA):
        tries += 1
        connection = http.client.HTTPConnection(str(parts.hostname), parts.port, timeout=10)
        headers = {"Range": f"bytes={len(got)}-", "If-Range": tag} if got else {}
        connection.request("GET", f"{parts.path}?{parts.query}", headers=headers)
        answer = connection.getresponse()
        assert answer.status == (206 if got else 200)
        tag = str(answer.headers["ETag"])
        got += answer.read(rng.randrange(10_000, 60_000))
        connection.close()  # most of it is still on its way
    assert bytes(got) == DATA
    assert tries > 3
    wait_for(lambda: served.door.inside == 0, "everybody out")
    assert served.server.counts.resumed == tries - 1


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_curl_resumes(served: Served, tmp_path: Path) -> None:
    file = tmp_path / "image.bin"
    file.write_bytes(DATA[:70_001])
    done = subprocess.run(
        ["curl", "-sS", "--fail", "--max-time", "20", "-C", "-", "-o", str(file), served.url()],
        capture_output=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert file.read_bytes() == DATA


def test_only_addresses_of_ours_in_their_time(served: Served) -> None:
    good = served.url()
    parts = urlsplit(good)
    path = f"{served.base}{parts.path}"
    for wrong in (
        path,
        f"{path}?{parts.query}&m=1",
        good.replace("c=c-1", "c=c-2"),
        good.replace("s=CP1", "s=CP2"),
        good.replace("n=S", "n=T"),
        good.replace("e=1", "e=2"),
        good.replace("e=1", "e=x"),
        good[:-1],
        served.url(secret=Secret("t" * 40)),
        f"{path}?" + "&".join(f"x{i}=1" for i in range(50)),
    ):
        assert served.client.get(wrong).status_code == 403, wrong
    assert served.client.get(served.url(expires_ms=now_ms() - 1_000)).status_code == 403
    assert served.client.get(served.url(secret=OLD)).status_code == 200
    assert served.client.get(served.url(image="acme_w22_9")).status_code == 404
    assert served.client.get(f"{served.base}/firmware/..%2f..%2fmetadata%2ftimestamp.json").status_code in {
        403,
        404,
    }
    assert served.server.counts.refused["unsigned"] >= 10
    assert served.server.counts.refused["expired"] == 1
    other = f"{served.base}/firmware/acme_w22_9?{parts.query}"  # a signature is for one image
    assert served.client.get(other).status_code == 403


def test_what_was_revoked_or_does_not_verify_is_not_given_out(tmp_path: Path) -> None:
    made = Served(tmp_path)
    try:
        made.kept.repo.hold(made.image.image_id, "looks bad")
        answer = made.client.get(made.url())
        assert (answer.status_code, "looks bad" in answer.text) == (410, True)
        assert made.withdrawn == [("c-1", "CP1", "acme_w22_2.0.0 is held back: looks bad")]
        assert made.shed == []
        made.kept.repo.hold(made.image.image_id, "")
        (made.kept.repo.targets / f"{made.image.sha256}.{made.image.image_id}").write_bytes(b"EVIL")
        answer = made.client.get(made.url())
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "60")
        assert "EVIL" not in answer.text
        assert made.shed == [("CP1", 60)]
        assert str(tmp_path) not in answer.text
        (made.kept.repo.metadata / "timestamp.json").write_text("{}")
        assert made.client.get(made.url()).status_code == 503
        assert made.client.get(f"{made.base}/health").status_code == 503
    finally:
        made.close()


def test_too_many_at_once_are_told_when_to_come_again(served: Served) -> None:
    connections = []
    served.pace._rate, served.pace._burst, served.pace._level = 50_000.0, 1.0, 1.0
    try:
        for i in range(3):
            parts = urlsplit(served.url(station=f"CP{i}"))
            connection = http.client.HTTPConnection(str(parts.hostname), parts.port, timeout=10)
            connection.request("GET", f"{parts.path}?{parts.query}")
            connections.append(connection)
        wait_for(lambda: served.door.inside == 3, "three inside")
        waits = set()
        for i in range(6):
            answer = served.client.get(served.url(station=f"late{i}"))
            assert answer.status_code == 503
            waits.add(int(answer.headers["retry-after"]))
        assert waits <= set(range(5, 11))
        assert len(waits) > 1
        assert served.client.head(served.url()).status_code == 200  # costs nothing
    finally:
        for connection in connections:
            connection.close()
        served.pace._rate = 0.0
    wait_for(lambda: served.door.inside == 0, "everybody out")
    assert served.server.counts.refused["busy"] == 6
    assert [station for station, _ in served.shed] == [f"late{i}" for i in range(6)]
    assert {wait_s for _, wait_s in served.shed} == waits
    assert served.server.counts.broken == 3


def test_a_station_that_asks_too_often_waits() -> None:
    now = [0.0]
    door = Doorkeeper(10, 6, 5, lambda: now[0])
    for _ in range(6):
        assert door.enter("S/CP1") == (0, 0)
        door.leave()
    assert door.enter("S/CP1") == (429, 10)
    assert door.enter("S/CP2") == (0, 0)
    now[0] = 10.0
    assert door.enter("S/CP1") == (0, 0)
    assert door.enter("S/CP1")[0] == 429


def test_the_bandwidth_is_shared() -> None:
    now = [0.0]
    pace = TokenBucket(1_000, 500, lambda: now[0])
    assert pace.take(500) == 0
    assert pace.take(1_000) == 1.0
    assert pace.take(1_000) == 2.0  # another download pays as well
    now[0] = 2.0
    assert pace.take(0) == 0
    now[0] = 100.0
    assert pace.take(500) == 0  # no more than the burst was saved up
    assert pace.take(500) == 0.5
    assert TokenBucket(0, 0).take(10**9) == 0


def test_two_downloads_take_the_time_that_the_cap_says(served: Served) -> None:
    served.pace._rate, served.pace._burst, served.pace._level = 800_000.0, 1.0, 0.0
    served.pace._at = time.monotonic()
    try:
        since = time.monotonic()
        threads = [
            threading.Thread(target=served.client.get, args=(served.url(station=f"CP{i}"),)) for i in range(2)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        took_s = time.monotonic() - since
    finally:
        served.pace._rate = 0.0
    assert took_s > 2 * len(DATA) / 800_000 * 0.95


def test_a_download_is_logged_without_its_signature(served: Served, caplog: pytest.LogCaptureFixture) -> None:
    url = served.url()
    mac = url.rpartition("m=")[2]
    with caplog.at_level(logging.INFO, "chargestream.firmware"):
        served.client.get(url)
        served.client.get(url + "x")
        wait_for(lambda: served.server.counts.completed == 1, "the count")
    lines = [record.getMessage() for record in caplog.records if record.name == "chargestream.firmware"]
    assert any("station S/CP1" in line and "campaign c-1" in line for line in lines)
    assert mac not in caplog.text
    assert SECRET.reveal() not in caplog.text


def test_grants_are_read_as_written() -> None:
    odd = Grant("i_d_1.0+2", "Ä campaign/&=?", "site one", "a/b", 5_000)
    query = query_of(odd, SECRET)
    assert read_grant("i_d_1.0+2", query, [SECRET], 4_999) == odd
    with pytest.raises(FirmwareError, match="good until 5"):
        read_grant("i_d_1.0+2", query, [SECRET], 5_000)
    # Neighbouring fields cannot borrow from each other.
    joined = {
        query_of(Grant("i", *names, 5_000), SECRET)[-43:] for names in (("ab", "c", "d"), ("a", "bc", "d"))
    }
    assert len(joined) == 2
    for secret, grant in (
        (Secret("short"), odd),
        (SECRET, odd._replace(station="")),
        (SECRET, odd._replace(site="x" * 129)),
    ):
        with pytest.raises(FirmwareError):
            query_of(grant, secret)
    with pytest.raises(FirmwareError, match="does not hold"):
        read_grant("i_d_1.0+2", query, [Secret()], 0)
    longest: dict[str, Any] = {
        "image_id": "v" * 120,
        "campaign": "c" * 36,
        "site": "s" * 40,
        "station": "n" * 48,
    }
    url = url_of("https://firmware.example.com:8443", Grant(**longest, expires_ms=1_795_509_000_000), SECRET)
    assert len(url) <= 512
