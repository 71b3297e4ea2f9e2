"""Keep firmware images: take in, sign, publish, take back; serve them to stations over HTTP and MQTT.

The folder of offline keys (root, targets) belongs on no server. `import`, `revoke`, `policy`, `resign`
and `rotate` need it; `publish`, `hold`, `serve` and everything that only reads do not.
"""

from __future__ import annotations

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``chargestream firmware``."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    _add_keeping(actions)
    _add_reading(actions)
    for name, text in (
        ("serve", "serve images over HTTP until stopped"),
        ("serve-chunks", "answer requests for chunks over MQTT until stopped"),
    ):
        sub = actions.add_parser(name, help=text)
        sub.add_argument("--config", metavar="FILE", type=Path, help="TOML file; without it the defaults")


def _add_keeping(actions: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    init, take = _add_making(actions)
    revoke, hold, policy = _add_denying(actions)
    resign = actions.add_parser("resign", help="sign targets for another term, unchanged")
    for sub in (take, revoke, policy, resign):
        sub.add_argument(
            "--offline", metavar="DIR", type=Path, required=True, help="folder of the targets key"
        )
        sub.add_argument("--online", metavar="DIR", type=Path, help="publish as well, with these keys")
    publish = actions.add_parser("publish", help="sign with the online keys what is newest")
    refresh = actions.add_parser(
        "refresh", help="the same, if there is something new or half the term is over"
    )
    for sub in (publish, refresh):
        sub.add_argument("--online", metavar="DIR", type=Path, required=True)
    rotate = actions.add_parser("rotate", help="replace keys, for example after a theft")
    rotate.add_argument("role", nargs="+", choices=("root", "targets", "snapshot", "timestamp"))
    rotate.add_argument("--offline", metavar="DIR", type=Path, required=True, help="folder of the root key")
    rotate.add_argument("--new", metavar="DIR", type=Path, required=True, help="folder for the new keys")
    for sub in (init, take, revoke, hold, policy, resign, publish, refresh, rotate):
        sub.add_argument("--repo", metavar="DIR", type=Path, required=True)
    for sub in (init, take, revoke, policy, resign, rotate):
        sub.add_argument(
            "--passphrase", metavar="REF", default="", help="of the offline keys: env:NAME, file:PATH"
        )


def _add_making(
    actions: argparse._SubParsersAction[argparse.ArgumentParser],
) -> tuple[argparse.ArgumentParser, argparse.ArgumentParser]:
    init = actions.add_parser("init-repo", help="make a repository and its keys")
    init.add_argument(
        "--offline", metavar="DIR", type=Path, required=True, help="new keys of root and targets"
    )
    init.add_argument(
        "--online", metavar="DIR", type=Path, required=True, help="new keys of snapshot, timestamp"
    )
    init.add_argument(
        "--pin", metavar="FILE", type=Path, required=True, help="write the root that clients trust"
    )
    init.add_argument("--vendor-root", metavar="FILE", type=Path, action="append", default=[], help="PEM")
    take = actions.add_parser("import", help="check an image and take it in")
    take.add_argument("file", type=Path)
    for name in ("vendor", "model", "version"):
        take.add_argument(f"--{name}", required=True, help="as the station reports it")
    take.add_argument("--certificates", metavar="FILE", type=Path, required=True, help="PEM, signer first")
    take.add_argument(
        "--signature", metavar="FILE", type=Path, required=True, help="detached, binary or base64"
    )
    take.add_argument("--algorithm", default="", help="default: what fits the certificate's key (RSA: PSS)")
    take.add_argument(
        "--from-version",
        metavar="RANGE",
        action="append",
        default=[],
        help='such as ">=1.2,<2.0"; default: all',
    )
    take.add_argument("--notes", metavar="TEXT", default="", help="release notes")
    return init, take


def _add_denying(
    actions: argparse._SubParsersAction[argparse.ArgumentParser],
) -> tuple[argparse.ArgumentParser, argparse.ArgumentParser, argparse.ArgumentParser]:
    revoke = actions.add_parser("revoke", help="take an image back for good")
    hold = actions.add_parser("hold", help="stop giving an image out at once, without a key")
    for sub in (revoke, hold):
        sub.add_argument("image")
        sub.add_argument("--reason", default="")
    hold.add_argument("--lift", action="store_true", help="give it out again")
    policy = actions.add_parser("policy", help="change what images are checked against")
    policy.add_argument(
        "--floor", nargs=3, action="append", default=[], metavar=("VENDOR", "MODEL", "VERSION")
    )
    policy.add_argument(
        "--vendor-root", metavar="FILE", type=Path, action="append", default=[], help="add, PEM"
    )
    policy.add_argument("--remove-root", metavar="SHA256", action="append", default=[])
    policy.add_argument("--revoke-certificate", metavar="SHA256", action="append", default=[])
    policy.add_argument("--crl", metavar="FILE", type=Path, action="append", help="PEM; replaces all lists")
    return revoke, hold, policy


def _add_reading(actions: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    listing = actions.add_parser("list", help="print the images that verify, one JSON object a line")
    show = actions.add_parser("show", help="print one image with certificate and notes, or the policy")
    show.add_argument("image", nargs="?", help="without it: the policy")
    verify = actions.add_parser(
        "verify", help="check every file, signature and chain; exit code 1 if one fails"
    )
    for sub in (listing, show, verify):
        sub.add_argument("--repo", metavar="DIR", type=Path, help="instead of the configured one")
        sub.add_argument("--pin", metavar="FILE", type=Path, help="instead of firmware.root_file")
        sub.add_argument("--config", metavar="FILE", type=Path, help="TOML file; without it the defaults")
    url = actions.add_parser("url", help="print an address that is good for one station")
    url.add_argument("image")
    url.add_argument("--campaign", default="by-hand")
    url.add_argument("--site", required=True)
    url.add_argument("--station", required=True)
    url.add_argument("--hours", type=float, default=24.0)
    url.add_argument("--token", action="store_true", help="only the token, for chunks over MQTT")
    url.add_argument("--config", metavar="FILE", type=Path, help="TOML file; without it the defaults")


def run(args: argparse.Namespace) -> int:
    """Do what `args.action` says; return the exit code."""
    if args.action in {"serve", "serve-chunks"}:
        from . import _firmware_serving as serving

        return serving.serve(args.config) if args.action == "serve" else serving.serve_chunks(args.config)
    from . import _firmware_keeping as keeping

    actions = {
        "init-repo": keeping.init_repo,
        "import": keeping.take,
        "revoke": keeping.revoke,
        "hold": keeping.hold,
        "policy": keeping.policy,
        "resign": keeping.resign,
        "publish": keeping.publish,
        "refresh": keeping.publish,
        "rotate": keeping.rotate,
        "list": keeping.list_images,
        "show": keeping.show,
        "verify": keeping.verify,
        "url": keeping.url,
    }
    return actions[args.action](args)
