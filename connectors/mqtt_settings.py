"""How to reach an MQTT broker, and what its refusals mean."""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field
from typing import Final

from models.errors import ConfigError, DeliveryError
from models.secret import Secret

TAKEN_OVER: Final = 0x8E
_REASONS: Final[dict[int, tuple[str, str]]] = {
    0x81: ("malformed packet", "this is a fault of one of the two programs: report it"),
    0x82: ("protocol error", "this is a fault of one of the two programs: report it"),
    0x84: ("unsupported protocol version", "check mqtt.protocol_version"),
    0x85: ("client identifier not valid", "check mqtt.client_id and the broker's rules for client ids"),
    0x86: ("bad user name or password", "check mqtt.username and mqtt.password"),
    0x87: ("not authorized", "check mqtt.username, mqtt.password and the broker's access rules"),
    0x88: ("server unavailable", "check the broker"),
    0x89: ("server busy", "check the broker's load"),
    0x8A: ("banned", "ask whoever runs the broker"),
    0x8B: ("server shutting down", "wait for the broker"),
    0x8D: ("keep alive timeout", "check the network, or raise mqtt.keep_alive_s"),
    0x97: ("quota exceeded", "check the broker's limits"),
    0x98: ("administrative action", "ask whoever runs the broker"),
    0x9F: ("connection rate exceeded", "raise mqtt.reconnect_min_s"),
}


def reason_text(code: int) -> tuple[str, str]:
    """Return the name of an MQTT 5 reason code and what to check."""
    return _REASONS.get(code, ("refused", "check the broker's log"))


@dataclass(frozen=True, slots=True)
class MqttSettings:
    """How to reach a broker, and as whom.

    Attributes
    ----------
    version : str
        ``5`` or ``3.1.1``.
    filters : tuple of str
        MQTT topic filters to subscribe to, without ``$share``.
    share_group : str
        Of a shared subscription. Whoever may connect and knows it can join, and the broker then gives him,
        or drops, his part of the messages: no access list of mosquitto 2.0 judges a subscription.
    session_expiry_s : int
        How long an MQTT 5 broker keeps the session; in 3.1.1 the broker decides.
    receive_maximum : int
        Messages in flight (MQTT 5).
    tls_ca_file, tls_cert_file, tls_key_file : str
        PEM files; empty: system authorities, no client certificate.
    """

    host: str
    port: int
    client_id: str
    version: str = "5"
    username: str = ""
    password: Secret = field(default_factory=Secret)
    filters: tuple[str, ...] = ()
    share_group: str = ""
    tls_enabled: bool = False
    tls_ca_file: str = ""
    tls_cert_file: str = ""
    tls_key_file: str = ""
    tls_insecure: bool = False
    keep_alive_s: int = 30
    session_expiry_s: int = 604_800
    receive_maximum: int = 2_000
    max_payload_bytes: int = 8_388_608
    reconnect_min_s: float = 0.5
    reconnect_max_s: float = 30.0
    connect_timeout_s: float = 10.0

    @property
    def subscriptions(self) -> tuple[str, ...]:
        """The filters as subscribed to, with the share group."""
        if not self.share_group:
            return self.filters
        return tuple(f"$share/{self.share_group}/{f}" for f in self.filters)

    def tls_context(self) -> ssl.SSLContext | None:
        """Return the TLS context, or None without TLS.

        Raises
        ------
        ConfigError
            If a certificate or key cannot be read.
        """
        if not self.tls_enabled:
            return None
        files = f"tls_ca_file={self.tls_ca_file!r}, tls_cert_file={self.tls_cert_file!r}, tls_key_file=…"
        try:
            context = ssl.create_default_context(cafile=self.tls_ca_file or None)
            if self.tls_cert_file:
                context.load_cert_chain(self.tls_cert_file, self.tls_key_file)
        except (OSError, ssl.SSLError) as error:
            raise ConfigError(
                f"[mqtt] {files}: {error}; expected readable PEM files that belong together"
            ) from error
        if self.tls_insecure:
            context.check_hostname = False
        return context


class LinkLost(DeliveryError):
    """The broker refused or closed the connection; `code` is its reason, 0 when it gave none."""

    def __init__(self, message: str, code: int = 0) -> None:
        super().__init__(message)
        self.code = code
