"""The configuration: all mistakes at once, the environment, the sample, and secrets that stay secret."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest

from models.errors import ConfigError
from models.secret import MASK, Secret
from pipeline import cli, config
from pipeline.config_fields import field_at, holds_tables, is_secret, is_text, unit_of, walk

#: Counts and names of things, which have no unit.
UNITLESS = {
    "burst", "port", "receivers", "receive_maximum", "shards", "workers", "qos", "tries", "queue_max",
    "max_downloads", "station_starts", "chunk_window", "chunk_in_flight",
}  # fmt: skip


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "c.toml"
    path.write_text(text)
    return path


def mistakes(path: Path | None, env: dict[str, str] | None = None) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        config.load(path, env or {})
    return str(caught.value).splitlines()


def test_defaults_load_without_a_file() -> None:
    loaded = config.load(None, {})
    assert loaded == config.Config()
    assert (loaded.mqtt.port, loaded.journal.shards, loaded.influx.bucket) == (1883, 16, "ev/autogen")
    assert loaded.routes[0].pattern == "evt/v1/_op/{rest}"


def test_the_sample_is_the_defaults(tmp_path: Path) -> None:
    text = config.sample()
    assert config.load(write(tmp_path, text), {}) == config.Config()
    for keys, field in walk(config.Config):
        if len(keys) == 2:
            assert f"\n{keys[-1]} = " in text or holds_tables(field)
            assert str(field.description) in text.replace("\n# ", " ")


def test_the_shown_configuration_loads_again(tmp_path: Path) -> None:
    given = write(tmp_path, '[mqtt]\nport = 1884\n[flow]\ncluster_addresses = ["a:1", "b:2"]\n')
    loaded = config.load(given, {})
    assert config.load(write(tmp_path, config.show(loaded)), {}) == loaded


def test_every_number_has_a_unit_bounds_and_every_setting_a_comment() -> None:
    for keys, field in walk(config.Config):
        name = str(keys[-1])
        if len(keys) == 2:
            assert field.description, keys
            if field.annotation in (int, float):
                assert unit_of(name) or name in UNITLESS, f"{keys} has no unit in its name"
                assert {"Ge", "Le"} <= {type(m).__name__ for m in field.metadata}, f"{keys} has no bounds"


BAD = """\
colour = "red"
[service]
instance = "a b"
[mqtt]
prot = 1883
port = 99999
protocol_version = 5
receivers = 3
hold_s = 3
reconnect_min_s = 5
reconnect_max_s = 1
keep_alive_s = true
[mqt]
host = "x"
[ledger]
url = "postgresql://bill:hunter2@db/ev"
[[routes]]
pattern = "a/{sit}/b"
dialect = "nativ"
[[routes]]
pattern = "a/{rest}/b"
[flow]
epoch_s = nan
cluster_addresses = ["a:1", "b"]
[detectors.under_votage]
enabled = true
[detectors.over_voltage]
enabled = "no"
"""


def test_all_mistakes_come_at_once(tmp_path: Path) -> None:
    path = write(tmp_path, BAD)
    env = {"CHARGESTREAM_API__PORT": "abc", "CHARGESTREAM_MQTT__HSOT": "x", "PATH": "/bin"}
    lines = mistakes(path, env)
    expected = [
        ("colour: expected a known section; there are service, mqtt, "),
        ('[service] instance = "a b": expected text matching ^[A-Za-z0-9_.-]{1,40}$'),
        ('[mqtt] prot: expected a known key; did you mean "port"?'),
        ("[mqtt] port = 99999: expected a whole number from 1 to 65535"),
        ('[mqtt] protocol_version = 5: expected one of "5", "3.1.1"'),
        ('[mqtt] share_group = "": expected a group name, because receivers = 3'),
        ("[mqtt] hold_s: expected a known key; hold_s belongs into [order]"),
        ("[mqtt] reconnect_max_s = 1: expected at least reconnect_min_s = 5"),
        ("[mqtt] keep_alive_s = true: expected a whole number from 5 to 65535"),
        ('mqt: expected a known section; did you mean "mqtt"?'),
        (f'[ledger] url = "postgresql://bill:{MASK}@db/ev": expected an address without password'),
        ("[[routes]] no. 1 pattern = \"a/{sit}/b\": expected route 'a/{sit}/b': '{sit}' is not"),
        ('[[routes]] no. 1 dialect = "nativ": expected one of '),
        ('[[routes]] no. 2 pattern = "a/{rest}/b": expected {rest} and # at the end only'),
        ("[[routes]] no. 2 dialect: expected text that is not empty, nothing is there"),
        ("[flow] epoch_s = nan: expected a number from 0.05 to 300"),
        ('[flow] cluster_addresses = ["a:1", "b"]: expected host:port of each process'),
        ('[detectors] under_votage: expected the name of a plug-in; did you mean "under_voltage"?'),
        ('[detectors.over_voltage] enabled = "no": expected true or false'),
    ]
    for text in expected:
        assert sum(line.startswith(f"{path}: {text}") for line in lines) == 1, text
    assert 'environment CHARGESTREAM_API__PORT = "abc": expected a whole number from 0 to 65535' in lines
    assert 'environment CHARGESTREAM_MQTT__HSOT: expected a known key; did you mean "host"?' in lines
    assert len(lines) == len(expected) + 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[mqtt\n", "not TOML: Expected ']' at the end of a table declaration"),
        ("mqtt = 5\n", "[mqtt] = 5: expected a table"),
        ("[mqtt]\nport = [1]\n", "[mqtt] port = [1]: expected a whole number from 1 to 65535"),
        ("routes = []\n", "routes = []: expected a list of at least one table"),
        ("routes = [3]\n", "[[routes]] no. 1 = 3: expected a table of pattern and dialect"),
        ("detectors = 3\n", "[detectors] = 3: expected a table"),
        ("[detectors]\nover_voltage = 3\n", "[detectors] over_voltage = 3: expected a table"),
        ("[dialects.native]\nx = 1\n", "[dialects] native: expected options that it takes: "),
        ("[dialects.natve]\nx = 1\n", "[dialects] natve: expected the name of a plug-in; did you mean"),
        (
            "[detectors.over_voltage]\nten_min_pu = 'x'\n",
            '[detectors.over_voltage] ten_min_pu = "x": expected a number',
        ),
        (
            "[detectors.over_voltage]\nten_min_samples = 1.5\n",
            "[detectors.over_voltage] ten_min_samples = 1.5: expected a whole number",
        ),
        (
            "[detectors.over_voltage]\nten_min = 1.2\n",
            '[detectors.over_voltage] ten_min: expected a setting of this plug-in; did you mean "ten_min_',
        ),
        (
            "[detectors.over_voltage]\nten_min_pu = 9.0\n",
            "[detectors.over_voltage] ten_min_pu = 9.0: expected a number from 1 to 2",
        ),
        ("[mqtt]\ntls_cert_file = 'x'\n", '[mqtt] tls_key_file = "": expected a file, because certificate'),
        (
            "[mqtt]\ntls_enabled = true\ntls_ca_file = 'no.pem'\n",
            '[mqtt] tls_ca_file = "no.pem": expected a file that exists',
        ),
    ],
)
def test_one_mistake(tmp_path: Path, text: str, message: str) -> None:
    path = write(tmp_path, text)
    lines = mistakes(path)
    assert len(lines) == 1
    assert lines[0].startswith(f"{path}: {message}")


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    lines = mistakes(tmp_path / "none.toml", {"CHARGESTREAM_API__PORT": "x"})
    assert "cannot be read (No such file or directory)" in lines[0]
    assert len(lines) == 2


def test_the_environment_overrides_the_file(tmp_path: Path) -> None:
    path = write(tmp_path, "[mqtt]\nport = 1\nhost = 'a'\n[detectors.over_voltage]\nenabled = true\n")
    env = {
        "CHARGESTREAM_MQTT__PORT": "1885",
        "CHARGESTREAM_MQTT__USERNAME": "12345",
        "CHARGESTREAM_INFLUX__GZIP": "true",
        "CHARGESTREAM_ORDER__HOLD_S": "0.5",
        "CHARGESTREAM_FLOW__CLUSTER_ADDRESSES": '["h:1","h:2"]',
        "CHARGESTREAM_ROUTES": '[{"pattern": "x/{site}/{rest}", "dialect": "native"}]',
        "CHARGESTREAM_DETECTORS__OVER_VOLTAGE__ENABLED": "false",
        "CHARGESTREAM_DATA": "/elsewhere",
    }
    loaded = config.load(path, env)
    assert (loaded.mqtt.host, loaded.mqtt.port, loaded.mqtt.username) == ("a", 1885, "12345")
    assert loaded.influx.gzip
    assert loaded.order.hold_s == 0.5
    assert loaded.flow.cluster_addresses == ("h:1", "h:2")
    assert [r.mqtt_filter for r in loaded.topic_routes()] == ["x/+/#"]
    assert loaded.detectors == {"over_voltage": {"enabled": False}}


def test_detectors_get_their_thresholds(tmp_path: Path) -> None:
    text = "[detectors.over_voltage]\nten_min_pu = 1.12\n[detectors.under_voltage]\nenabled = false\n"
    configs = config.load(write(tmp_path, text), {}).detector_configs()
    assert configs["over_voltage"].ten_min_pu == 1.12
    assert "under_voltage" not in configs
    assert config.Config().detector_configs().keys() == configs.keys() | {"under_voltage"}


SECRET_SETTINGS = [str(k[0]) + "." + str(k[1]) for k, f in walk(config.Config) if is_secret(f)]


def test_secrets_are_the_fields_that_sound_like_it() -> None:
    expected = [
        "mqtt.password",
        "mqtt.share_group",
        "influx.token",
        "ledger.password",
        "firmware.url_secret",
        "firmware.url_secret_old",
    ]
    assert expected == SECRET_SETTINGS
    for keys, field in walk(config.Config):
        if any(word in str(keys[-1]) for word in ("password", "token", "secret")):
            assert is_secret(field)


def test_secrets_come_from_references(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("t0ken-value\n")
    path = write(tmp_path, f'[mqtt]\npassword = "env:MQTT_PW"\n[influx]\ntoken = "file:{tmp_path}/token"\n')
    loaded = config.load(path, {"MQTT_PW": "pa55"})
    assert loaded.mqtt.password.reveal() == "pa55"
    assert loaded.influx.token.reveal() == "t0ken-value"
    assert not loaded.ledger.password
    shown = config.show(loaded) + repr(loaded) + str(loaded) + loaded.model_dump_json(fallback=str)
    assert "pa55" not in shown
    assert "t0ken-value" not in shown
    assert 'password = "env:MQTT_PW"' in shown
    assert pickle.loads(pickle.dumps(loaded)) == loaded


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("env:NO_SUCH", 'password = "env:NO_SUCH": expected the environment variable NO_SUCH to be set'),
        ("file:/no/such", 'password = "file:/no/such": expected a readable file (/no/such: No such file'),
        ("file:/dev/null", 'password = "file:/dev/null": expected a file that is not empty'),
    ],
)
def test_a_reference_that_leads_nowhere(tmp_path: Path, reference: str, message: str) -> None:
    path = write(tmp_path, f'[mqtt]\npassword = "{reference}"\n')
    assert mistakes(path)[0].startswith(f"{path}: [mqtt] {message}")


def test_a_literal_secret_is_warned_of_and_never_printed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CHARGESTREAM_LEDGER__PASSWORD", "hunter2")
    path = write(tmp_path, '[mqtt]\npassword = "hunter2"\n[influx]\ntoken = "hunter2"\n')
    assert cli.main(["check-config", str(path)]) == 0
    assert cli.main(["config", "--show", str(path)]) == 0
    out, err = capsys.readouterr()
    assert "hunter2" not in out + err
    assert err.count("stands in plain text; better env:NAME or file:PATH") == 3
    assert f'token = "{MASK}"' in out


@pytest.mark.parametrize(
    "text",
    [
        '[mqtt]\npassword = "hunter2"\nport = 0\n',
        '[mqtt]\npasword = "hunter2"\n',
        '[mqtt]\npassword = ["hunter2"]\n',
        '[influx]\ntokn = "hunter2"\ntoken = "hunter2"\nraw = "x"\n',
        '[ledger]\nurl = "postgresql://u:hunter2@h/d"\n',
        '[influx]\nurl = "ftp://u:hunter2@h/d"\n',
        'password = "hunter2"\n',
        '[mqtt]\npassword = "hunter2\n',
        '[api]\npassword = "hunter2"\n',
    ],
)
def test_no_mistake_shows_a_secret(tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str) -> None:
    assert cli.main(["check-config", str(write(tmp_path, text))]) == cli.EXIT_USAGE
    out, err = capsys.readouterr()
    assert "hunter2" not in out + err
    assert "configuration: " in err


def test_commands(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert cli.main(["config"]) == 0
    assert capsys.readouterr().out == config.sample()
    assert cli.main(["check-config"]) == 0
    assert capsys.readouterr().out.startswith("ok: defaults: broker 127.0.0.1:1883, 2 routes, 16 shards")
    assert cli.main(["check-config", str(write(tmp_path, BAD))]) == cli.EXIT_USAGE
    captured = capsys.readouterr()
    assert captured.out == ""
    assert len(captured.err.splitlines()) == 19


def test_warnings() -> None:
    env = {"CHARGESTREAM_MQTT_HOST": "x", "CHARGESTREAM_MQTT": "{}"}
    loaded = config.load(
        None,
        {
            "CHARGESTREAM_API__HOST": "0.0.0.0",
            "CHARGESTREAM_MQTT__HOST": "broker",
            "CHARGESTREAM_MQTT__PASSWORD": "env:PW",
            "PW": "x",
        },
    )
    found = config.warnings(loaded, env)
    assert any("CHARGESTREAM_MQTT_HOST is not read; the name is CHARGESTREAM_MQTT__HOST" in w for w in found)
    assert any("CHARGESTREAM_MQTT is not read" in w for w in found)
    assert any("the password travels to broker without TLS" in w for w in found)
    assert any("listens on 0.0.0.0" in w for w in found)
    assert config.warnings(config.Config(), {}) == []


def test_what_could_never_work_is_warned_of(tmp_path: Path) -> None:
    steps = "[" + ", ".join(['{ action = "unlock" }'] * 4) + "]"
    path = write(
        tmp_path,
        f"""
[mqtt]
share_group = "ingest"
[reactions.rules.hot]
codes = ["offline"]
steps = {steps}
""",
    )
    found = config.warnings(config.load(path, {}), {})
    assert any("[mqtt] share_group of 6 characters can be guessed" in w for w in found)
    assert any("[reactions.rules.hot] has 4 steps, more than station_per_h lets" in w for w in found)


def test_a_mistake_inside_json_of_the_environment_is_placed() -> None:
    routes = '[{"pattern": "x/{site}/{rest}", "dialect": "natve"}]'
    line = mistakes(None, {"CHARGESTREAM_ROUTES": routes})[0]
    assert line.startswith(
        'environment CHARGESTREAM_ROUTES: [[routes]] no. 1 dialect = "natve": expected one of'
    )
    assert line.endswith('did you mean "native"?')


def test_the_ledger_address_takes_its_password_last() -> None:
    env = {
        "CHARGESTREAM_LEDGER__URL": "postgresql+psycopg://bill@db:5432/ev",
        "CHARGESTREAM_LEDGER__PASSWORD": "env:PW",
        "PW": "p@ss/word",
    }
    assert config.load(None, env).ledger_url() == "postgresql+psycopg://bill:p%40ss%2Fword@db:5432/ev"
    assert config.Config().ledger_url().startswith("sqlite:////")


def test_secret_compares_and_hides() -> None:
    secret: Any = Secret("a", "env:A")
    assert secret == Secret("a", "env:A")
    assert secret != Secret("b", "env:A")
    assert secret != "a"
    assert len({secret, Secret("a", "env:A")}) == 1
    assert (str(Secret("a")), repr(Secret("a")), str(Secret())) == (MASK, f"Secret({MASK})", "")


def test_environment_text_stays_text() -> None:
    for keys, field in walk(config.Config):
        assert field_at(config.Config, keys) is field
        assert is_text(field) == (isinstance(field.default, str | Secret)), keys
