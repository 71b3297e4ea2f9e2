"""The commands of notifications, and their settings."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from connectors.broker import MosquittoBroker, mosquitto_path
from connectors.ledger import Ledger
from models.errors import ConfigError
from models.notices import Notice
from models.outputs import FindingAction
from models.secret import MASK
from pipeline import cli, config
from pipeline.egress_notify import trial

from ._ledger_records import blob, change
from ._notify_servers import Mailbox, mail_server

NOW_MS = 1_790_000_000_000


@pytest.fixture
def mailbox() -> Iterator[tuple[Mailbox, str]]:
    with mail_server() as served:
        yield served


def run(*words: str) -> tuple[int, str]:
    with contextlib.redirect_stdout(io.StringIO()) as out:
        code = cli.main(list(words))
    return code, out.getvalue()


def test_a_trial_says_what_the_server_answered(
    tmp_path: Path, mailbox: tuple[Mailbox, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    box, url = mailbox
    monkeypatch.setenv("MAIL", url)
    (tmp_path / "c.toml").write_text('[notify.routes.ops]\nurl = "env:MAIL"\n')
    words = ("notify", "test", "--route", "ops", "--config", str(tmp_path / "c.toml"))
    code, out = run(*words)
    assert (code, out.startswith("ops: delivered: Sent Email")) == (0, True), out
    assert box.subjects() == ["[info] trial, raised: trial"]
    box.answers = ["554 go away"]
    code, out = run(*words)
    assert (code, "not delivered" in out, "go away" in out) == (1, True, True), out


def test_a_preview_shows_what_open_findings_cause_and_sends_nothing(tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text(
        f'[service]\ndata_dir = "{tmp_path}"\n[notify.routes.ops]\nmqtt_topic = "ops"\nescalate_s = 600\n'
        'escalate_to = "boss"\n[notify.routes.boss]\nmqtt_topic = "boss"\nseverity = "critical"\n'
    )
    ledger = Ledger(f"sqlite:///{tmp_path}/ledger.sqlite")
    with contextlib.closing(ledger):
        ledger.apply("findings", [(0, blob(change(1, raised_at=NOW_MS), change(1, finding_id="f2")))])
        ack = FindingAction(
            finding_id="f2", action_id="a", site="depot", action="ack", by="ann", to=None, until=None,
            text=None, at=2_000,
        )  # fmt: skip
        ledger.apply("finding_actions", [(0, blob(ack))])
    code, out = run("notify", "preview", "--config", str(tmp_path / "c.toml"))
    assert code == 0
    assert [line.split("  ")[0] for line in out.splitlines()[:-1]] == ["boss", "ops", "ops"]
    assert "NOT ACKNOWLEDGED" in out.splitlines()[0]
    assert out.splitlines()[-1] == "2 open findings: 3 messages by now, 0 states wait; none was sent"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[notify.routes.a]\n", "[notify.routes.a] mqtt_topic"),
        ('[notify.routes.a]\nurl = "env:NOT_SET"\n', "the environment variable NOT_SET"),
        ('[notify.routes.a]\nmqtt_topic = "x"\nquiet = "22:00-29:00"\n', "[notify.routes.a] quiet"),
        ('[notify.routes.a]\nmqtt_topic = "x"\nseverity = "high"\n', "[notify.routes.a] severity"),
        ('[notify.routes.a]\nmqtt_topic = "x"\nsevrity = "info"\n', "a known key"),
        ('[notify.routes.a]\nmqtt_topic = "x"\nescalate_s = 5\nescalate_to = "b"\n', "another of them"),
        ('[notify.routes."A b"]\nmqtt_topic = "x"\n', "names of a-z"),
        ('[notify]\ntime_zone = "Mars/Olympus"\n', "IANA time zone"),
        ("[notify]\nroutes = 3\n", "tables by name"),
    ],
)
def test_wrong_routes_are_told(tmp_path: Path, text: str, expected: str) -> None:
    (tmp_path / "c.toml").write_text(text)
    with pytest.raises(ConfigError) as caught:
        config.load(tmp_path / "c.toml", {})
    assert expected in str(caught.value)


def test_routes_come_from_file_and_environment_and_stay_secret(tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text('[notify.routes.a]\nurl = "json://user:opensesame@host"\n')
    env = {"CHARGESTREAM_NOTIFY__ROUTES__B__URL": "env:ADDRESS", "ADDRESS": "json://host/other-secret"}
    loaded = config.load(tmp_path / "c.toml", env)
    assert loaded.notify.routes["b"].url.reveal() == "json://host/other-secret"
    shown = config.show(loaded)
    assert 'url = "env:ADDRESS"' in shown
    assert f'url = "{MASK}"' in shown
    assert "opensesame" not in shown + str(loaded)
    assert "[notify.routes.a] url stands in plain text" in "\n".join(config.warnings(loaded, env))
    again = shown.replace(MASK, "json://user:opensesame@host")
    (tmp_path / "again.toml").write_text(again)
    assert config.load(tmp_path / "again.toml", env).notify.rules() == loaded.notify.rules()


@pytest.mark.server
@pytest.mark.skipif(mosquitto_path() is None, reason="mosquitto is not installed")
def test_a_trial_over_mqtt_is_acknowledged_by_the_broker(tmp_path: Path) -> None:
    broker = MosquittoBroker()
    broker.start()
    try:
        (tmp_path / "c.toml").write_text(
            f'[mqtt]\nport = {broker.port}\n[notify.routes.ops]\nmqtt_topic = "alerts/ops"\n'
        )
        code, out = run("notify", "test", "--route", "ops", "--config", str(tmp_path / "c.toml"))
    finally:
        broker.close()
    assert (code, out) == (0, "ops: delivered: acknowledged by the broker, topic alerts/ops\n")


def test_a_trial_is_a_message_like_any_other() -> None:
    again = msgspec.msgpack.decode(msgspec.msgpack.encode(trial("r", NOW_MS)), type=Notice)
    assert again == trial("r", NOW_MS)
