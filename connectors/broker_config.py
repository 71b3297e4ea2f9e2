"""A configuration of mosquitto that keeps every node to its own topics.

Two listeners, each with its own authority and its own access list: one for nodes, one for services and
operators. The name in a client's certificate is its user name, and for nodes the client id as well, so no
node can take over another's session.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from models.errors import ConfigError, StorageError
from models.topics import ROOT

from .pki import NODES, STAFF, check_name

_SERVICE: Final = (
    f"read {ROOT}/+/+/up/#",
    f"readwrite {ROOT}/_op/#",
    f"readwrite {ROOT}/_ctl/#",
    f"write {ROOT}/+/+/dn/#",
    f"write {ROOT}/+/+/cost/#",
    f"write {ROOT}/+/+/finding",
    f"write {ROOT}/+/+/finding/open/#",
)
_RECEIVER: Final = (f"read {ROOT}/+/+/up/#", f"read {ROOT}/_op/#", f"read {ROOT}/_ctl/#")
_OPERATOR: Final = (f"write {ROOT}/_op/#", f"read {ROOT}/+/+/finding/#")
_HEAD: Final = "# Written by chargestream broker-config; documentation: docs/security.md\n"


@dataclass(frozen=True, slots=True)
class BrokerPlan:
    """What the configuration is made of.

    Attributes
    ----------
    pki : Path
        Folder with ``ca.pem``, ``nodes-ca.pem`` and their revocation lists.
    certificate : Path
        Of the broker; its key lies beside it.
    node_port, staff_port : int
    node_host, staff_host : str
        Addresses to listen on; empty: all.
    services : tuple of str
        Accounts of the pipeline: the only ones that may command stations. They cannot speak for one.
    receivers : tuple of str
        Accounts that only receive what stations and operators publish.
    operators : tuple of str
        Accounts that may publish requests of people, and read findings.
    service_topics : tuple of str
        More topic filters that services read and write, for dialects with topics of their own.
    data : Path
        Folder in which the broker keeps sessions and messages.
    user : str
        Account that mosquitto changes to when started as root.
    """

    pki: Path
    certificate: Path
    data: Path
    node_port: int = 8883
    staff_port: int = 8884
    node_host: str = ""
    staff_host: str = "127.0.0.1"
    services: tuple[str, ...] = ("chargestream",)
    receivers: tuple[str, ...] = ()
    operators: tuple[str, ...] = ()
    service_topics: tuple[str, ...] = ()
    user: str = "mosquitto"


def write(plan: BrokerPlan, out: Path) -> list[Path]:
    """Write ``mosquitto.conf``, ``nodes.acl`` and ``staff.acl`` into `out`; return their paths.

    Raises
    ------
    ConfigError
        If a name cannot be one, is given twice, or a certificate is missing.
    StorageError
        If a file cannot be written.
    """
    names = [*plan.services, *plan.receivers, *plan.operators]
    for name in names:
        check_name(name)
    if len(set(names)) != len(names):
        raise ConfigError("an account has one role: a name is given twice")
    out = out.absolute()
    texts = {"mosquitto.conf": _main(plan, out), "nodes.acl": _nodes(), "staff.acl": _staff(plan)}
    try:
        out.mkdir(parents=True, exist_ok=True)
        plan.data.mkdir(parents=True, exist_ok=True)
        for name, text in texts.items():
            (out / name).write_text(text)
            (out / name).chmod(0o640)
    except OSError as error:
        raise StorageError(f"{out}: {error.strerror or error}") from error
    return [out / name for name in texts]


def _main(plan: BrokerPlan, out: Path) -> str:
    lines = [
        f"user {plan.user}",
        "per_listener_settings true",
        "persistence true",
        f"persistence_location {plan.data.absolute()}/",
        "autosave_interval 60",
        "# The default drops all but 1,000 messages of a client that is away.",
        "max_queued_messages 0",
        "max_inflight_messages 0",
        "max_packet_size 9000000",
        "set_tcp_nodelay true",
        "log_dest stdout",
    ]
    for port, host, label, acl in (
        (plan.node_port, plan.node_host, NODES, "nodes.acl"),
        (plan.staff_port, plan.staff_host, STAFF, "staff.acl"),
    ):
        lines += [
            "",
            f"listener {port} {host}".rstrip(),
            f"cafile {_there(plan.pki / f'{label}.pem')}",
            f"crlfile {_there(plan.pki / f'{label}.crl')}",
            f"certfile {_there(plan.certificate)}",
            f"keyfile {_there(plan.certificate.with_suffix('.key'))}",
            "tls_version tlsv1.2",
            "allow_anonymous false",
            "require_certificate true",
            "use_identity_as_username true",
            f"acl_file {out / acl}",
        ]
        if label == NODES:
            lines.append("use_username_as_clientid true")
    return _HEAD + "\n".join(lines) + "\n"


def _nodes() -> str:
    return (
        f"{_HEAD}"
        "# %u is the name in the certificate: site/node.\n"
        f"pattern write {ROOT}/%u/up/#\n"
        f"pattern read {ROOT}/%u/dn/#\n"
    )


def _staff(plan: BrokerPlan) -> str:
    blocks = []
    for name in plan.services:
        rights = [*_SERVICE, *(f"readwrite {topic}" for topic in plan.service_topics)]
        blocks.append(_block(name, rights))
    for name in plan.receivers:
        rights = [*_RECEIVER, *(f"read {topic}" for topic in plan.service_topics)]
        blocks.append(_block(name, rights))
    blocks += [_block(name, _OPERATOR) for name in plan.operators]
    return _HEAD + "\n".join(blocks)


def _block(name: str, rights: Sequence[str]) -> str:
    return f"user {name}\n" + "".join(f"topic {right}\n" for right in rights)


def _there(path: Path) -> Path:
    if not path.is_file():
        raise ConfigError(
            f"{path} does not exist: chargestream pki init and pki server make the certificates"
        )
    return path.absolute()
