"""The sections of the configuration: every setting with its default, bounds and comment.

A name ends with its unit; `tests/unit/test_config.py` holds the list of those that have none. The
description is the comment of the sample file. Checks across keys raise `clash`.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, GetCoreSchemaHandler, field_validator, model_validator
from pydantic_core import PydanticCustomError, core_schema

from models import plugins
from models.errors import ConfigError
from models.secret import Secret
from models.topics import OPERATOR_SITE, ROOT, Route

DETECTORS = "models.detectors"
DIALECTS = "pipeline.dialects"
_GROUP = re.compile(r"[^+#/\x00]{0,64}")


def clash(key: str, expected: str) -> PydanticCustomError:
    """Return the error for `key` of this section disagreeing with another setting."""
    return PydanticCustomError("clash", "{expected}", {"key": key, "expected": expected})


class _SecretSchema:
    """Reads a `Secret`; references were resolved before (`pipeline.config`)."""

    @classmethod
    def __get_pydantic_core_schema__(cls, _source: Any, _handler: GetCoreSchemaHandler) -> Any:
        return core_schema.is_instance_schema(Secret)


SecretValue = Annotated[Secret, _SecretSchema]
Texts = Annotated[tuple[str, ...], Field(strict=False)]


class Section(BaseModel):
    """Base of all sections: frozen, strict about types, no unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class ServiceSection(Section):
    """The service as a whole."""

    data_dir: str = Field("var", min_length=1, description="Folder of journal, outbox, ledger and snapshots.")
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="Least severe line that is logged."
    )
    log_format: Literal["text", "json"] = Field("text", description="text for people, json for collectors.")
    instance: str = Field(
        "chargestream",
        pattern=r"^[A-Za-z0-9_.-]{1,40}$",
        description="Name of this installation; part of MQTT client ids and of metrics.",
    )
    stop_timeout_s: float = Field(
        10.0, ge=1, le=300, description="A process that has not stopped after this time is killed."
    )
    restart_min_s: float = Field(
        0.5, ge=0.1, le=60, description="Wait before a crashed process is started again; doubles each time."
    )
    restart_max_s: float = Field(30.0, ge=0.1, le=3600, description="Longest wait between two restarts.")

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.restart_max_s < self.restart_min_s:
            raise clash("restart_max_s", f"at least restart_min_s = {self.restart_min_s:g}")
        return self


class MqttSection(Section):
    """The broker that stations and gateways publish to."""

    host: str = Field("127.0.0.1", min_length=1, description="Name or address of the broker.")
    port: int = Field(1883, ge=1, le=65535, description="Its TCP port; 8883 is usual with TLS.")
    protocol_version: Literal["5", "3.1.1"] = Field("5", description="MQTT version to speak.")
    username: str = Field("", description="User name; empty: none is sent.")
    password: SecretValue = Field(Secret(), description="Password.")
    client_id: str = Field(
        "",
        pattern=r"^[^+#/\x00]{0,64}$",
        description="Client id of the receiver; empty: <instance>-ingest. No two clients may share one.",
    )
    client: Literal["paho", "lean"] = Field(
        "paho", description="Receiver: paho, or our own lean reader, which takes more messages per second."
    )
    tls_enabled: bool = Field(False, description="Speak TLS.")
    tls_ca_file: str = Field("", description="PEM file of the authority; empty: the system's authorities.")
    tls_cert_file: str = Field("", description="PEM file of our client certificate; empty: none.")
    tls_key_file: str = Field("", description="PEM file of the client certificate's key.")
    tls_insecure: bool = Field(False, description="Accept a certificate for another host name (tests only).")
    keep_alive_s: int = Field(30, ge=5, le=65535, description="Longest silence towards the broker.")
    session_expiry_s: int = Field(
        604_800,
        ge=0,
        le=4_294_967_295,
        description="How long the broker keeps our session and its messages while we are away (MQTT 5).",
    )
    receive_maximum: int = Field(
        2_000,
        ge=1,
        le=65_535,
        description="Messages in flight before the broker waits for acknowledgements (MQTT 5).",
    )
    share_group: SecretValue = Field(
        Secret(),
        description="Shared-subscription group of several receivers, secret: who joins takes messages away.",
    )
    receivers: int = Field(1, ge=1, le=32, description="Receiver processes; more than one need share_group.")
    max_payload_bytes: int = Field(
        8_388_608, ge=1_024, le=268_435_455, description="A longer message goes to the dead stream."
    )
    reconnect_min_s: float = Field(
        0.5, ge=0.1, le=60, description="Wait before the first reconnection; doubles each time, jittered."
    )
    reconnect_max_s: float = Field(30.0, ge=0.1, le=3600, description="Longest wait between reconnections.")
    connect_timeout_s: float = Field(10.0, ge=0.5, le=120, description="Wait for the broker's answer.")

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.reconnect_max_s < self.reconnect_min_s:
            raise clash("reconnect_max_s", f"at least reconnect_min_s = {self.reconnect_min_s:g}")
        if not _GROUP.fullmatch(self.share_group.reveal()):
            raise clash("share_group", "at most 64 characters without + # and /")
        if self.receivers > 1 and not self.share_group:
            raise clash("share_group", f"a group name, because receivers = {self.receivers}")
        if bool(self.tls_cert_file) != bool(self.tls_key_file):
            missing = "tls_key_file" if self.tls_cert_file else "tls_cert_file"
            raise clash(missing, "a file, because certificate and key belong together")
        return self


class RouteSection(Section):
    """How topics are read; the first pattern that matches wins."""

    pattern: str = Field(
        min_length=1,
        description="Topic levels, with {site}, {node} for one level, {rest} for all that remain, + and #.",
    )
    dialect: str = Field(min_length=1, description="Payload dialect: a file of pipeline/dialects.")

    @field_validator("pattern")
    @classmethod
    def _pattern(cls, value: str) -> str:
        levels = value.split("/")
        if any(level in {"{rest}", "#"} for level in levels[:-1]):
            raise PydanticCustomError("route", "{rest} and # at the end only")
        if "" in levels:
            raise PydanticCustomError("route", "no empty topic level")
        if any(levels.count(name) > 1 for name in ("{site}", "{node}")):
            raise PydanticCustomError("route", "each placeholder once")
        try:
            Route(value, "").regex()
        except ConfigError as error:
            raise PydanticCustomError("route", "{reason}", {"reason": str(error)}) from None
        return value

    @field_validator("dialect")
    @classmethod
    def _dialect(cls, value: str) -> str:
        known = plugins.names(DIALECTS)
        if value not in known:
            raise PydanticCustomError(
                "choice", "one of {known}", {"known": ", ".join(known), "choices": known}
            )
        return value


DEFAULT_ROUTES = (
    RouteSection.model_construct(pattern=f"{ROOT}/{OPERATOR_SITE}/{{rest}}", dialect="native"),
    RouteSection.model_construct(pattern=f"{ROOT}/{{site}}/{{node}}/up/{{rest}}", dialect="native"),
)


class JournalSection(Section):
    """The journal: every message is on disk here before the broker hears that we have it."""

    shards: int = Field(
        16, ge=1, le=1024, description="Shards of the sites; fixed when the data folder is created."
    )
    group_commit_ms: float = Field(
        10.0, ge=0, le=1000, description="Messages wait this long to share one write to disk."
    )
    commit_max_messages: int = Field(20_000, ge=1, le=1_000_000, description="A fuller group does not wait.")
    commit_max_bytes: int = Field(
        2_097_152, ge=65_536, le=1_073_741_824, description="A larger group does not wait."
    )
    queue_max_bytes: int = Field(
        268_435_456,
        ge=1_048_576,
        le=17_179_869_184,
        description="Received and not yet on disk; beyond it acknowledgements are withheld.",
    )
    keep_hours: float = Field(
        72.0, ge=0.1, le=87_600, description="Processed messages younger than this are kept for replay."
    )
    keep_gib: float = Field(
        20.0,
        ge=0.01,
        le=100_000,
        description="Processed messages beyond this size are dropped, oldest first.",
    )
    min_free_mib: int = Field(
        512, ge=1, le=1_048_576, description="Less free disk than this stops ingest, unacknowledged."
    )


class OutboxSection(Section):
    """The outbox: results on their way to InfluxDB, ledger and MQTT."""

    keep_hours: float = Field(
        24.0, ge=0, le=87_600, description="Delivered records younger than this are kept."
    )
    keep_gib: float = Field(
        10.0, ge=0.01, le=100_000, description="Delivered records beyond this size are dropped, oldest first."
    )


class OrderSection(Section):
    """Order of messages and readings, clocks, and what counts as late."""

    hold_s: float = Field(2.0, ge=0, le=60, description="Wait for a message with an earlier sequence number.")
    hold_max_messages: int = Field(
        100_000,
        ge=1,
        le=10_000_000,
        description="Messages of a shard that may wait; beyond it the oldest goes on.",
    )
    gap_final_s: float = Field(
        120.0, ge=1, le=86_400, description="A missing sequence number is lost after this time."
    )
    gap_final_backlog_s: float = Field(
        600.0, ge=1, le=604_800, description="The same while a station drains its backlog."
    )
    live_max_age_s: float = Field(
        900.0,
        ge=1,
        le=86_400,
        description="Readings older on arrival are backlog: they bill, they do not alarm.",
    )
    future_max_s: float = Field(
        300.0, ge=1, le=86_400, description="Readings this far ahead of arrival are invalid, clock corrected."
    )
    clock_error_s: float = Field(
        60.0, ge=1, le=86_400, description="A station clock wrong by more is corrected and reported."
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.gap_final_backlog_s < self.gap_final_s:
            raise clash("gap_final_backlog_s", f"at least gap_final_s = {self.gap_final_s:g}")
        return self


_ADDRESS = re.compile(r"[^\s:]+:([0-9]{1,5})")


class FlowSection(Section):
    """The dataflow and its worker processes."""

    workers: int = Field(1, ge=1, le=256, description="Worker processes; the shards are dealt out to them.")
    epoch_s: float = Field(2.0, ge=0.05, le=300, description="State is saved this often.")
    poll_ms: float = Field(5.0, ge=0.5, le=1000, description="Pause before an empty journal is read again.")
    batch_max_messages: int = Field(8_192, ge=1, le=1_000_000, description="Most messages of one batch.")
    batch_max_bytes: int = Field(
        2_097_152, ge=65_536, le=1_073_741_824, description="Most payload bytes of one batch."
    )
    outbox_commit_ms: float = Field(
        20.0, ge=0, le=1000, description="Results wait this long to share one write to disk."
    )
    latest_every_s: float = Field(
        2.0, ge=0, le=3600, description="The newest reading of an EVSE reaches the page at most this often."
    )
    cluster_addresses: Texts = Field(
        (),
        max_length=256,
        description="host:port of each process of a Bytewax cluster; empty: independent workers.",
    )

    @field_validator("cluster_addresses")
    @classmethod
    def _addresses(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for address in value:
            found = _ADDRESS.fullmatch(address)
            if not found or not 1 <= int(found[1]) <= 65535:
                raise PydanticCustomError("address", "host:port of each process")
        if len(set(value)) != len(value):
            raise PydanticCustomError("address", "different addresses")
        return value


class EnergySection(Section):
    """Quarter-hour energy per EVSE."""

    boundary_tolerance_s: float = Field(
        1.0, ge=0, le=60, description="A register this near to a quarter's border counts as read on it."
    )
    close_grace_s: float = Field(
        120.0, ge=0, le=86_400, description="A quarter is written this long after its end."
    )
    late_quarters: int = Field(
        96, ge=1, le=2_976, description="Past quarters per EVSE that late readings may still revise."
    )


class InfluxSection(Section):
    """InfluxDB 2.x, 3 Core, or 1.x behind an /api/v2/write rewrite."""

    enabled: bool = Field(False, description="Write to InfluxDB.")
    url: str = Field("http://127.0.0.1:8086", pattern=r"^https?://[^\s/]+", description="Base address.")
    token: SecretValue = Field(Secret(), description="API token.")
    org: str = Field("", description="Organisation; InfluxDB 3 and 1.x ignore it.")
    bucket: str = Field(
        "ev/autogen",
        pattern=r"^[A-Za-z0-9_.-]+(/[A-Za-z0-9_.-]+)?$",
        description="Bucket: database or database/policy, a name that every version reads.",
    )
    batch_points: int = Field(5_000, ge=1, le=100_000, description="Most points of one write.")
    gzip: bool = Field(False, description="Compress writes; halves the rate, saves the line.")
    timeout_s: float = Field(10.0, ge=0.5, le=300, description="Wait for an answer.")
    retry_min_s: float = Field(1.0, ge=0.05, le=60, description="Wait before a retry; doubles each time.")
    retry_max_s: float = Field(60.0, ge=0.05, le=3600, description="Longest wait between retries.")
    raw: Literal["auto", "all", "off"] = Field(
        "auto",
        description="Single readings; auto: all below raw_max_rows_per_s, else EVSEs with findings.",
    )
    raw_max_rows_per_s: int = Field(2_000, ge=0, le=10_000_000, description="Rate at which auto cuts down.")

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.retry_max_s < self.retry_min_s:
            raise clash("retry_max_s", f"at least retry_min_s = {self.retry_min_s:g}")
        return self


class LedgerSection(Section):
    """The ledger that billing systems read."""

    url: str = Field(
        "",
        pattern=r"^$|^(sqlite|postgresql)(\+[a-z0-9]+)?://",
        description="SQLAlchemy address, without password; empty: ledger.sqlite in the data folder.",
    )
    password: SecretValue = Field(Secret(), description="Database password.")

    @field_validator("url")
    @classmethod
    def _no_password(cls, value: str) -> str:
        if re.search(r"://[^/@]*:[^/@]*@", value):
            raise PydanticCustomError("url", "an address without password; that goes into ledger.password")
        return value


class ApiSection(Section):
    """The page, the billing queries and /metrics."""

    host: str = Field("127.0.0.1", min_length=1, description="Address to listen on.")
    port: int = Field(8080, ge=0, le=65535, description="TCP port; 0: any free one.")
    rate_per_s: float = Field(
        20.0, ge=0.01, le=100_000, description="Requests of one token each second, in the long run."
    )
    burst: int = Field(100, ge=1, le=1_000_000, description="Requests of one token at once.")
    names: Texts = Field(
        (), description="Host names by which it is asked for through a proxy; also that of ocpi.public_url."
    )
    trusted_proxies: Texts = Field(
        ("127.0.0.1", "::1"), description="Whose X-Forwarded-For says the caller's address; nobody else's."
    )


class PublishSection(Section):
    """What goes back to the broker."""

    findings_enabled: bool = Field(True, description="Publish findings under evt/v1/<site>/<node>/finding.")
    retain_open: bool = Field(True, description="Keep a retained copy of each open finding.")
    qos: Literal[0, 1, 2] = Field(1, description="Quality of service of what we publish.")
