"""Messages on their way: a real mail server and an HTTP receiver on loopback, crashes, refusals."""

from __future__ import annotations

import datetime
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from connectors.notice_store import NoticeStore, notices_path
from connectors.notify import AppriseChannel
from connectors.outbox import OutboxCursors, OutboxReader, outbox_cursors_path
from models.errors import ConfigError, Refused, RetryLater
from models.notices import Notice, NoticeItem, RouteRule, notice_of
from models.outputs import Account, FindingAction
from models.secret import Secret
from pipeline import config
from pipeline.egress import dead_letter_path
from pipeline.egress_notify import (
    NoticeDesk,
    Notifying,
    NotifySink,
    RouteSink,
    route_outbox,
)
from pipeline.egress_sinks import Record

from ._egress_tools import cursor, letters, put, running, until
from ._ledger_records import blob, change
from ._notify_servers import Mailbox, Web, mail_server, web_server


@pytest.fixture
def mailbox() -> Iterator[tuple[Mailbox, str]]:
    with mail_server() as served:
        yield served


@pytest.fixture
def web() -> Iterator[tuple[Web, str]]:
    with web_server() as served:
        yield served


def notice(number: int = 1, state: str = "raised", route: str = "r", **kw: Any) -> Notice:
    finding_id = f"f{number}"
    item = NoticeItem(
        finding_id=finding_id, state=state, finding=change(finding_id=finding_id, **kw).published()
    )
    return notice_of(route, 1_000 + number, [item])


def channel(url: str, **kw: Any) -> AppriseChannel:
    return AppriseChannel(Secret(url, "env:ADDRESS"), datetime.UTC, **kw)


def record(seq: int, *notices: Notice) -> Record:
    return Record(seq, 0, msgspec.msgpack.encode(notices))


# -- servers ---------------------------------------------------------------------------------------


def test_a_mail_arrives_with_subject_and_text(mailbox: tuple[Mailbox, str]) -> None:
    box, url = mailbox
    to = channel(url, page_url="https://charge.example")
    to._server.request_rate_per_sec = 0  # else the next one waits five seconds
    assert "Sent Email" in to.send(notice())
    assert "Sent Email" in to.send(notice(2))
    to.close()
    assert box.subjects() == ["[warning] Supply voltage too low, raised: depot/cs1/1"] * 2
    text = box.taken[1].get_payload(decode=True).decode()
    assert "to do: check the feeder" in text
    assert "https://charge.example/findings/f2" in text


@pytest.mark.parametrize(
    ("answer", "kind"),
    [("554 no such thing", Refused), ("451 try again", RetryLater), ("421 closing", RetryLater)],
)
def test_a_mail_servers_answer_decides(
    mailbox: tuple[Mailbox, str], answer: str, kind: type[Exception]
) -> None:
    box, url = mailbox
    box.answers = [answer]
    to = channel(url)
    with pytest.raises(kind, match=answer[4:]):
        to.send(notice())
    to.close()
    assert box.taken == []


@pytest.mark.parametrize(
    ("status", "kind"),
    [(400, Refused), (422, Refused), (403, RetryLater), (404, RetryLater), (503, RetryLater)],
)
def test_a_web_servers_answer_decides(web: tuple[Web, str], status: int, kind: type[Exception]) -> None:
    state, url = web
    state.statuses = [status]
    to = channel(url)
    with pytest.raises(kind, match=f"error={status}") as caught:
        to.send(notice())
    assert "said" in str(caught.value)
    assert to.send(notice()).endswith("HTTP 200")
    to.close()
    assert state.bodies[0]["title"] == "[warning] Supply voltage too low, raised: depot/cs1/1"


def test_programs_get_json(web: tuple[Web, str]) -> None:
    state, url = web
    to = channel(url, as_json=True)
    to.send(notice())
    to.close()
    body = json.loads(state.bodies[0]["message"])
    assert body["items"][0]["finding"]["code"] == "under_voltage"
    assert body["id"] == notice().id


def test_no_error_shows_what_is_secret_of_an_address() -> None:
    to = channel("json://user:opensesame@127.0.0.1:9/services/T0-secret-token?method=PUT")
    with pytest.raises(RetryLater) as caught:
        to.send(notice())
    to.close()
    assert "127.0.0.1" in str(caught.value)
    for secret in ("opensesame", "T0-secret-token"):
        assert secret not in str(caught.value)
    with pytest.raises(ConfigError, match="env:ADDRESS") as wrong:
        channel("nosuch://user:opensesame@host")
    assert "opensesame" not in str(wrong.value)


# -- one message per state -------------------------------------------------------------------------


class FakeChannel:
    """Takes messages, or answers what it is told to."""

    def __init__(self, *answers: Exception | None) -> None:
        self.answers, self.sent = list(answers), list[list[str]]()

    def send(self, notice: Notice) -> str:
        answer = self.answers.pop(0) if self.answers else None
        if answer is not None:
            raise answer
        self.sent.append([f"{item.finding_id} {item.state}" for item in notice.items])
        return "taken"

    def close(self) -> None:
        """Nothing."""


def test_what_was_sent_is_not_sent_again(tmp_path: Path) -> None:
    store, to = notices_path(tmp_path), FakeChannel(None, RetryLater("busy"))
    sink = RouteSink("r", lambda: to, store)
    batch = [record(1, notice(1)), record(2, notice(2)), record(3, notice(1, "cleared"))]
    with pytest.raises(RetryLater, match="route r: busy"):
        sink.deliver("notices", batch)
    assert to.sent == [["f1 raised"]]
    assert sink.deliver("notices", batch) == []
    assert sink.deliver("notices", batch) == []
    sink.close()
    again = RouteSink("r", lambda: to, store)
    assert again.deliver("notices", batch) == []
    again.close()
    assert to.sent == [["f1 raised"], ["f2 raised"], ["f1 cleared"]]


def test_what_a_crash_left_in_doubt_is_kept_and_not_sent(tmp_path: Path) -> None:
    store, to = notices_path(tmp_path), FakeChannel(KeyboardInterrupt())  # type: ignore[arg-type]
    sink = RouteSink("r", lambda: to, store)
    with pytest.raises(KeyboardInterrupt):
        sink.deliver("notices", [record(1, notice(1))])
    sink.close()
    again = RouteSink("r", lambda: to, store)
    (letter,) = again.deliver("notices", [record(1, notice(1)), record(2, notice(2))])
    assert "may have arrived" in letter.reason
    assert msgspec.msgpack.decode(letter.blob, type=list[Notice]) == [notice(1)]
    assert to.sent == [["f2 raised"]]
    assert again.deliver("notices", [Record(7, -1, letter.blob)]) == []  # put back by hand: it is sent
    again.close()
    assert to.sent == [["f2 raised"], ["f1 raised"]]


def test_a_pile_goes_as_one_message_and_a_refused_one_is_kept(tmp_path: Path) -> None:
    to = FakeChannel(None, Refused("no such recipient"))
    sink = RouteSink("r", lambda: to, notices_path(tmp_path))
    assert sink.deliver("notices", [record(i, notice(i)) for i in range(1, 9)]) == []
    assert to.sent == [[f"f{i} raised" for i in range(1, 9)]]
    letters = sink.deliver("notices", [record(9, notice(9)), Record(10, 0, b"?")])
    sink.close()
    assert sorted((letter.seq, letter.reason.split(":")[0]) for letter in letters) == [
        (9, "route r"), (10, "cannot be read"),
    ]  # fmt: skip


# -- from the outbox to the server -----------------------------------------------------------------

NOW_MS = 1_790_000_000_000


def account(through_ms: int, first: int) -> bytes:
    counts = dict.fromkeys(("messages", "decoded", "duplicate", "dead", "held"), 0)
    counts |= dict.fromkeys([n for n in Account.__struct_fields__ if n.startswith("rows_")], 0)
    return blob(Account(shard=0, first=first, end=first + 1, through_ms=through_ms, **counts))


def finding(number: int, minutes: float, finding_id: str = "f1", **kw: Any) -> tuple[str, int, bytes]:
    time_ms = NOW_MS + round(minutes * 60_000)
    return "findings", 0, blob(change(number, finding_id=finding_id, changed_at=time_ms, start=time_ms, **kw))


def test_findings_travel_from_the_outbox_to_each_route(
    tmp_path: Path, mailbox: tuple[Mailbox, str], web: tuple[Web, str]
) -> None:
    box, mail_url = mailbox
    state, web_url = web
    state.statuses = [503, 503, 400]
    env = {"MAIL": mail_url, "HOOK": web_url}
    text = """
    [notify.routes.mail]
    url = "env:MAIL"
    escalate_s = 600
    escalate_to = "hook"
    [notify.routes.hook]
    url = "env:HOOK"
    severity = "critical"
    """
    (tmp_path / "c.toml").write_text(f'[service]\ndata_dir = "{tmp_path}"\n{text}')
    notifying = Notifying(config.load(tmp_path / "c.toml", env))
    with NoticeStore(notices_path(tmp_path)) as store:
        store._db.execute("UPDATE routes SET since_ms = 0")  # the stream below is older than this test
    notifying.close()
    notifying = Notifying(config.load(tmp_path / "c.toml", env))
    ack = FindingAction(
        finding_id="f2", action_id="a", site="depot", action="ack", by="ann", to=None, until=None, text=None,
        at=NOW_MS + 300_000,
    )  # fmt: skip
    put(
        tmp_path,
        [
            finding(1, 0), finding(1, 1, "f2"), finding(1, 1, "f3", severity="critical"),
            finding(1, 2, "f4", live=False), ("finding_actions", 0, blob(ack)), finding(3, 6, "f3"),
            ("account", 0, account(NOW_MS + 3_600_000, 1)), ("findings", 0, b"?"), finding(1, 0),
        ],
    )  # fmt: skip
    with running(tmp_path, notifying.sinks, also=notifying.routes):
        until(lambda: len(state.bodies) == 2, "both messages at the web server")
        until(lambda: box.taken, "the mail")
    notifying.close()
    assert box.subjects() == ["[critical] 4 findings: 3 raised, 1 cleared"]
    # The web server was away twice, then refused f3's raise for good; its clearing and f1's escalation came.
    assert [body["title"].split(": ")[0] for body in state.bodies] == [
        "[warning] Supply voltage too low, cleared", "[warning] Supply voltage too low, NOT ACKNOWLEDGED",
    ]  # fmt: skip
    kept = [(consumer, stream, reason.split(":")[0]) for consumer, stream, _, _, reason in letters(tmp_path)]
    assert sorted(kept) == [("notify", "findings", "cannot be read"), ("notify", "notices", "route hook")]


def test_a_letter_put_back_reaches_the_route(tmp_path: Path) -> None:
    desk = NoticeDesk(tmp_path, lambda since: [RouteRule("r", since_ms=since["r"])], ["r"])
    put(tmp_path, [("notices", -1, msgspec.msgpack.encode([notice()]))], "retry")
    to = FakeChannel()
    sinks: dict[str, Any] = {"notify": lambda _: NotifySink(desk)}
    also: dict[Path, Any] = {
        route_outbox(tmp_path, "r"): lambda _: RouteSink("r", lambda: to, notices_path(tmp_path))
    }
    with running(tmp_path, sinks, also=also) as egress:
        until(lambda: to.sent, "the message")
        status = egress.status({"notify": 0})
    desk.close()
    assert to.sent == [["f1 raised"]]
    assert set(status["outboxes"]) == {"retry", "route-r"}
    assert not dead_letter_path(tmp_path).exists() or letters(tmp_path) == []


def test_a_route_tells_what_changes_after_it_was_set_up(tmp_path: Path) -> None:
    desk = NoticeDesk(
        tmp_path,
        lambda since: [RouteRule("r", since_ms=since["r"])],
        ["r"],
        wall_ns=lambda: NOW_MS * 1_000_000,
    )
    sink = NotifySink(desk)
    old, new = finding(1, -5), finding(1, 5, "f2")
    assert sink.deliver("findings", [Record(1, 0, old[2]), Record(2, 0, new[2])]) == []
    desk.close()
    with OutboxReader(route_outbox(tmp_path, "r")) as reader:
        found = [
            n for _, _, b in reader.read("notices", 0) for n in msgspec.msgpack.decode(b, type=list[Notice])
        ]
    assert [n.items[0].finding_id for n in found] == ["f2"]


def test_switched_off_and_on_again_it_begins_anew(tmp_path: Path) -> None:
    text = f'[service]\ndata_dir = "{tmp_path}"\n[notify.routes.r]\nmqtt_topic = "r"\n'
    (tmp_path / "on.toml").write_text(text)
    (tmp_path / "off.toml").write_text(f"{text}[notify]\nenabled = false\n")
    on, off = (config.load(tmp_path / name, {}) for name in ("on.toml", "off.toml"))
    Notifying(off).close()
    assert not notices_path(tmp_path).exists()
    Notifying(on).close()
    put(tmp_path, [finding(1, 0)])
    with OutboxCursors(outbox_cursors_path(tmp_path / "outbox" / "worker-00.db")) as cursors:
        cursors.set("notify", "findings", 1)
        cursors.set("ledger", "findings", 1)
    with NoticeStore(notices_path(tmp_path)) as store:
        first = store.since(["r"], 5)
        assert first["r"] > 5
        Notifying(off).close()
        assert store.since(["r"], 5) == {"r": 5}
    assert (cursor(tmp_path, "notify", "findings"), cursor(tmp_path, "ledger", "findings")) == (0, 1)
