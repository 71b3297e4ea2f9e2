"""The configuration: one TOML file, overridden by the environment, checked whole before anything starts.

``CHARGESTREAM_<SECTION>__<KEY>=value`` overrides a key (lists and ``CHARGESTREAM_ROUTES`` as JSON). Secrets
are references, ``env:NAME`` or ``file:PATH``, read when the configuration is loaded.
"""

from __future__ import annotations

import copy
import json
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote, urlsplit

from pydantic import Field, ValidationError
from pydantic.fields import FieldInfo

from models.errors import ConfigError
from models.secret import MASK, Secret
from models.topics import Route

from . import config_billing
from . import config_sections as sections
from .config_control import CommandsSection
from .config_fields import (
    Mistake,
    expectation,
    field_at,
    holds_tables,
    is_secret,
    is_text,
    section_of,
    shown,
    walk,
)
from .config_fields import Path as Keys
from .config_firmware import FirmwareSection
from .config_load import LoadSection
from .config_maintenance import MaintenanceSection
from .config_notify import NotifySection
from .config_plugins import build_configs, check, did_you_mean
from .config_reactions import ReactionsSection

PREFIX = "CHARGESTREAM_"
#: Random letters that nobody guesses.
_SAFE_GROUP = 16


class Config(sections.Section):
    """Everything that can be set."""

    service: sections.ServiceSection = Field(default_factory=sections.ServiceSection)
    mqtt: sections.MqttSection = Field(default_factory=sections.MqttSection)
    routes: Annotated[tuple[sections.RouteSection, ...], Field(strict=False)] = Field(
        sections.DEFAULT_ROUTES, min_length=1
    )
    dialects: dict[str, dict[str, Any]] = Field(default_factory=dict)
    journal: sections.JournalSection = Field(default_factory=sections.JournalSection)
    order: sections.OrderSection = Field(default_factory=sections.OrderSection)
    flow: sections.FlowSection = Field(default_factory=sections.FlowSection)
    detectors: dict[str, dict[str, Any]] = Field(default_factory=dict)
    energy: sections.EnergySection = Field(default_factory=sections.EnergySection)
    maintenance: MaintenanceSection = Field(default_factory=MaintenanceSection)
    influx: sections.InfluxSection = Field(default_factory=sections.InfluxSection)
    outbox: sections.OutboxSection = Field(default_factory=sections.OutboxSection)
    ledger: sections.LedgerSection = Field(default_factory=sections.LedgerSection)
    api: sections.ApiSection = Field(default_factory=sections.ApiSection)
    billing: config_billing.BillingSection = Field(default_factory=config_billing.BillingSection)
    ocpi: config_billing.OcpiSection = Field(default_factory=config_billing.OcpiSection)
    load: LoadSection = Field(default_factory=LoadSection)
    publish: sections.PublishSection = Field(default_factory=sections.PublishSection)
    commands: CommandsSection = Field(default_factory=CommandsSection)
    reactions: ReactionsSection = Field(default_factory=ReactionsSection)
    notify: NotifySection = Field(default_factory=NotifySection)
    firmware: FirmwareSection = Field(default_factory=FirmwareSection)

    def topic_routes(self) -> list[Route]:
        """Return the routes as `models.topics` takes them."""
        return [Route(route.pattern, route.dialect) for route in self.routes]

    def token_salts(self) -> tuple[str, ...]:
        """Return what dialects put before a token when they hash it."""
        return tuple(sorted({str(o["token_salt"]) for o in self.dialects.values() if o.get("token_salt")}))

    def dialect_options(self) -> dict[str, dict[str, Any]]:
        """Return the options of each dialect that has any."""
        return {name: dict(options) for name, options in self.dialects.items()}

    def detector_configs(self) -> dict[str, Any]:
        """Return the ``Config`` of every enabled detector by name (imports the detectors)."""
        return build_configs(sections.DETECTORS, self.detectors)

    def ledger_url(self) -> str:
        """Return the SQLAlchemy address of the ledger, with its password: never print it."""
        if not self.ledger.url:
            return f"sqlite:///{Path(self.service.data_dir, 'ledger.sqlite').absolute()}"
        if not self.ledger.password:
            return self.ledger.url
        scheme, rest = self.ledger.url.split("://", 1)
        user, at, host = rest.rpartition("@")
        return f"{scheme}://{user}:{quote(self.ledger.password.reveal(), safe='')}{at}{host}"


class _Draft:
    """Raw settings on their way to a `Config`, with where each came from and what is wrong."""

    def __init__(self, path: Path | None, env: Mapping[str, str]) -> None:
        self.file = str(path) if path else "defaults"
        self.env = env
        self.data: dict[str, Any] = {}
        self.from_env: dict[Keys, str] = {}
        self.lines: list[str] = []
        if path:
            self._read(path)
        self._override()

    def _read(self, path: Path) -> None:
        try:
            self.data = tomllib.loads(path.read_bytes().decode())
        except OSError as error:
            self.lines.append(f"{path}: cannot be read ({error.strerror}); expected a TOML file")
        except UnicodeDecodeError as error:
            self.lines.append(f"{path}: byte {error.start} is not UTF-8; expected a TOML file")
        except tomllib.TOMLDecodeError as error:
            self.lines.append(f"{path}: not TOML: {error}")

    def _override(self) -> None:
        for variable in sorted(self.env):
            if not variable.startswith(PREFIX) or not ("__" in variable or variable == f"{PREFIX}ROUTES"):
                continue
            keys: Keys = tuple(variable.removeprefix(PREFIX).lower().split("__"))
            field = field_at(Config, keys)
            value: Any = self.env[variable]
            if field is None or not is_text(field):
                value = _from_json(value)
            table = self.data
            for key in keys[:-1]:
                inner = table.get(str(key))
                if not isinstance(inner, dict):
                    if inner is not None:
                        self.say(Mistake((key,), "a table", shown(inner)))
                    inner = table[str(key)] = {}
                table = inner
            table[str(keys[-1])] = value
            self.from_env[keys] = variable

    def say(self, mistake: Mistake) -> None:
        """Add the line of one mistake."""
        path, place = mistake.path, f"{self.file}: {_place(mistake.path)}"
        for keys, variable in self.from_env.items():
            if path[: len(keys)] == keys or (len(path) > 1 and keys[: len(path)] == path):
                place = f"environment {variable}" + (f": {_place(path)}" if len(path) > len(keys) else "")
        value = "" if mistake.value is None else f" = {mistake.value}"
        self.lines.append(f"{place}{value}: expected {mistake.expected}")

    def resolve_secrets(self) -> None:
        """Replace every reference by the `Secret` it leads to."""
        for keys, field in walk(Config):
            table = self.data.get(str(keys[0]))
            if not isinstance(table, dict) or keys[-1] not in table:
                continue
            if is_secret(field):
                self._resolve(table, keys, field)
            elif holds_tables(field) and isinstance(table[keys[-1]], dict):
                inner = section_of(field.annotation) or Config
                for name, values in table[keys[-1]].items():
                    for key, setting in inner.model_fields.items():
                        if is_secret(setting) and isinstance(values, dict) and key in values:
                            self._resolve(values, (*keys, name, key), setting)

    def _resolve(self, table: dict[str, Any], keys: Keys, field: FieldInfo) -> None:
        value = table.pop(str(keys[-1]))
        if not isinstance(value, str):
            self.say(Mistake(keys, expectation(field), MASK))
            return
        try:
            table[str(keys[-1])] = read_secret(value, self.env)
        except ConfigError as error:
            self.say(Mistake(keys, str(error), shown(value)))

    def take_plugins(self, section: str, package: str, *, switch: bool) -> dict[str, dict[str, Any]]:
        """Take the tables of a section of plug-ins out, checked."""
        tables, mistakes = check(section, package, self.data.pop(section, {}), switch=switch)
        for mistake in mistakes:
            self.say(mistake)
        return tables

    def validate(self) -> Config | None:
        """Return the configuration, or None after noting every mistake.

        Further passes without the wrong values find what disagrees among the right ones.
        """
        try:
            return Config.model_validate(self.data)
        except ValidationError as error:
            wrong = error.errors()
        places = [item["loc"] for item in wrong]
        wrong = [
            i for i in wrong if not any(p != i["loc"] and p[: len(i["loc"])] == i["loc"] for p in places)
        ]
        mistakes = [_mistake(item) for item in wrong]
        rest = copy.deepcopy(self.data)
        while wrong:
            for mistake in [_mistake(item) for item in wrong]:
                _remove(rest, mistake.path)
            wrong = self._clashes(rest, {mistake.path for mistake in mistakes})
            mistakes += [_mistake(item) for item in wrong]
        for mistake in mistakes:
            self.say(mistake)
        return None

    @staticmethod
    def _clashes(data: dict[str, Any], known: set[Keys]) -> list[Any]:
        try:
            Config.model_validate(data)
        except ValidationError as error:
            return [i for i in error.errors() if i["type"] == "clash" and _mistake(i).path not in known]
        return []


def load(path: Path | None, env: Mapping[str, str]) -> Config:
    """Return the configuration of a file (None: the defaults) and an environment.

    Opens no socket. Files that settings point to (certificates, secrets) must be readable.

    Raises
    ------
    ConfigError
        If anything is wrong; its text has one line for each mistake.
    """
    draft = _Draft(path, env)
    draft.resolve_secrets()
    plugins = {
        "dialects": draft.take_plugins("dialects", sections.DIALECTS, switch=False),
        "detectors": draft.take_plugins("detectors", sections.DETECTORS, switch=True),
    }
    config = draft.validate()
    if config:
        for mistake in _missing_files(config):
            draft.say(mistake)
    if config is None or draft.lines:
        raise ConfigError("\n".join(draft.lines))
    return config.model_copy(update=plugins)


def sample() -> str:
    """Return the commented sample file: every setting at its default."""
    from .config_text import sample as text

    return text(Config)


def show(config: Config) -> str:
    """Return `config` as TOML with secrets masked."""
    from .config_text import show as text

    return text(config)


def warnings(config: Config, env: Mapping[str, str]) -> list[str]:
    """Return what is allowed but hardly meant, a line each."""
    found = []
    for keys, field in walk(Config):
        section, key = str(keys[0]), str(keys[-1])
        secret = getattr(getattr(config, section), key) if is_secret(field) else None
        if secret and not secret.source:
            found.append(f"[{section}] {key} stands in plain text; better env:NAME or file:PATH")
        near = f"{PREFIX}{section}_{key}".upper()
        if near in env and not is_secret(field):
            found.append(
                f"environment {near} is not read; the name is {PREFIX}{section.upper()}__{key.upper()}"
            )
    found += [
        f"[notify.routes.{name}] url stands in plain text; better env:NAME or file:PATH"
        for name, route in config.notify.routes.items()
        if route.url and not route.url.source
    ]
    found += [
        f"environment {PREFIX}{name.upper()} is not read; name the key: {PREFIX}{name.upper()}__<KEY>"
        for name in Config.model_fields
        if f"{PREFIX}{name}".upper() in env and name != "routes"
    ]
    group = config.mqtt.share_group.reveal()
    if group and len(group) < _SAFE_GROUP:
        found.append(
            f"[mqtt] share_group of {len(group)} characters can be guessed, and a station that joins the"
            f" group takes messages away; use {_SAFE_GROUP} random ones or more"
        )
    local = {"127.0.0.1", "localhost", "::1"}
    if config.mqtt.password and not config.mqtt.tls_enabled and config.mqtt.host not in local:
        found.append(f"[mqtt] the password travels to {config.mqtt.host} without TLS")
    if config.mqtt.tls_enabled and config.mqtt.tls_insecure:
        found.append("[mqtt] tls_insecure accepts a certificate of any host")
    url = urlsplit(config.influx.url)
    if config.influx.enabled and config.influx.token and url.scheme == "http" and url.hostname not in local:
        found.append(f"[influx] the token travels to {url.hostname} without TLS")
    found += [
        f"[reactions.rules.{name}] has {len(rule.steps)} steps, more than station_per_h lets be sent"
        for name, rule in config.reactions.rules.items()
        if len(rule.steps) > config.reactions.station_per_h
    ]
    if config.api.host not in local:
        found.append(f"[api] listens on {config.api.host}: put a proxy with access control before it")
    return found


def _from_json(value: str) -> Any:
    try:
        return json.loads(value)
    except ValueError:
        return value


def read_secret(value: str, env: Mapping[str, str]) -> Secret:
    """Return the secret that a reference (``env:NAME``, ``file:PATH``) leads to, or a literal.

    Raises
    ------
    ConfigError
        If the reference leads nowhere; its text is what was expected.
    """
    kind, colon, name = value.partition(":")
    if kind == "env" and colon:
        if not env.get(name):
            raise ConfigError(f"the environment variable {name} to be set and not empty")
        return Secret(env[name], value)
    if kind == "file" and colon:
        try:
            secret = Path(name).read_text().rstrip("\r\n")
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "not text"
            raise ConfigError(f"a readable file ({name}: {reason})") from None
        if not secret:
            raise ConfigError(f"a file that is not empty ({name})")
        return Secret(secret, value)
    return Secret(value)


def _missing_files(config: Config) -> list[Mistake]:
    if not config.mqtt.tls_enabled:
        return []
    names = ("tls_ca_file", "tls_cert_file", "tls_key_file")
    files = [(name, getattr(config.mqtt, name)) for name in names]
    return [
        Mistake(("mqtt", name), "a file that exists", shown(file))
        for name, file in files
        if file and not Path(file).is_file()
    ]


def _place(path: Keys) -> str:
    if len(path) == 1:
        return f"[{path[0]}]" if path[0] in Config.model_fields and path[0] != "routes" else f"{path[0]}"
    if path[0] == "routes":
        return f"[[routes]] no. {int(path[1]) + 1}" + (f" {path[2]}" if len(path) > 2 else "")
    return f"[{'.'.join(map(str, path[:-1]))}] {path[-1]}"


def _mistake(item: Any) -> Mistake:
    path: Keys = item["loc"]
    context = item.get("ctx", {})
    if item["type"] == "clash":
        path = (*path, context["key"])
        return Mistake(path, context["expected"], shown(item["input"].get(context["key"], "")))
    field = field_at(Config, path)
    if item["type"] == "extra_forbidden":
        return Mistake(path, _unknown_key(path))
    if item["type"] == "missing":
        return Mistake(path, f"{expectation(field) if field else 'a value'}, nothing is there")
    value = shown(item["input"])
    if item["type"] in {"route", "choice", "address", "url"}:
        hint = did_you_mean(item["input"], context["choices"]) if item["type"] == "choice" else ""
        return Mistake(path, item["msg"] + hint, value)
    if path == ("routes",) or not field:
        return Mistake(path, "a list of at least one table", value)
    if len(path) == 2 and path[0] == "routes":
        return Mistake(path, "a table of pattern and dialect", value)
    return Mistake(path, expectation(field), value)


def _unknown_key(path: Keys) -> str:
    name = str(path[-1])
    above = field_at(Config, path[:-1]) if len(path) > 1 else None
    model = section_of(above.annotation) if above else Config
    known = list(model.model_fields) if model else []
    homes = [f"[{keys[0]}]" for keys, _ in walk(Config) if keys[-1] == name]
    near = did_you_mean(name, known) or f"; there are {', '.join(known)}"
    hint = f"; {name} belongs into {homes[0]}" if homes else near
    return f"a known {'section' if len(path) == 1 else 'key'}{hint}"


def _remove(data: dict[str, Any], path: Keys) -> None:
    """Take a wrong value out: a key of a section, or all routes (they agree with nothing else)."""
    table: Any = data.get(str(path[0]))
    if len(path) == 2 and isinstance(table, dict):
        table.pop(path[1], None)
    else:
        data.pop(str(path[0]), None)
