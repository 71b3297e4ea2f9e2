"""Look at learned models, compare a new one with the one in use, put one into use.

``list`` and ``show`` read the folder of models. ``shadow`` lets two models judge the same recorded sessions
and compares what they would find. ``drift`` says whether recorded sessions are still those a model was
trained for; its exit code is 1 when they are not. ``promote`` asks the running service to judge by a model
from now on, or to let it judge in silence: the request goes through the broker into the journal, so that a
replay changes the model at the same place.
"""

from __future__ import annotations

import argparse
import getpass
import json
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from models.learned.session_model import SessionModel
    from pipeline.replay_sessions import Sessions

_ACTIONS: Final = {
    "list": "models of a folder",
    "show": "one model: what it was trained on, and what it is worth",
    "shadow": "what a model would find beside another one, on recorded messages",
    "drift": "whether recorded sessions are still those a model was trained for",
    "promote": "have the running service judge by a model",
}
_DIFFERENT: Final = 20


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``chargestream models``."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    for name, text in _ACTIONS.items():
        sub = actions.add_parser(name, help=text, description=text)
        sub.add_argument("--models", metavar="DIR", type=Path, required=True, help="folder of models")
        if name != "list":
            sub.add_argument("model", metavar="ID", help="its id, or the first characters of it")
        if name == "shadow":
            sub.add_argument("--beside", metavar="ID", required=True, help="the model in use")
        if name in {"shadow", "drift"}:
            sub.add_argument("--log", metavar="FILE", type=Path, nargs="+", default=[], help="message logs")
            sub.add_argument(
                "--journal",
                metavar="DIR",
                type=Path,
                nargs="+",
                default=[],
                help="data folders with a journal",
            )
        if name == "promote":
            sub.add_argument(
                "--role", choices=("model", "shadow"), default="model", help="aloud or in silence"
            )
            sub.add_argument("--by", default="", metavar="NAME", help="who does this (default: you)")
            sub.add_argument("--dry-run", action="store_true", help="print the request and send nothing")
        if name in {"shadow", "drift", "promote"}:
            sub.add_argument("--config", metavar="FILE", type=Path, help="TOML file; without it the defaults")
        if name != "promote":
            sub.add_argument("--json", action="store_true", help="print JSON")


def run(args: argparse.Namespace) -> int:
    """Run one action."""
    from models.learned.session_model import find, load

    if args.action == "list":
        return _list(args)
    model = load(find(args.models, args.model))
    if args.action == "show":
        print(json.dumps(_told(model), indent=2 if not args.json else None))
        return 0
    if args.action == "promote":
        return _promote(model, args)
    sessions = _sessions(args)
    if args.action == "drift":
        return _drift(model, sessions, args)
    return _shadow(load(find(args.models, args.beside)), model, sessions, args)


def _told(model: SessionModel) -> dict[str, Any]:
    arrays = {name: list(array.shape) for name, array in model.arrays().items()}
    return {"model": model.model_id, **model.header, "arrays": arrays}


def _list(args: argparse.Namespace) -> int:
    from models.learned.session_model import SUFFIX, load

    for path in sorted(args.models.glob(f"*{SUFFIX}")):
        model = load(path)
        if args.json:
            print(json.dumps({"model": model.model_id, **model.header}))
            continue
        data, rare = model.header["training"], model.header["metrics"].get("unusual_unseen_station", 0.0)
        origin = f"{data['sessions']} sessions of {data['stations']} stations ({data['fingerprint'][:8]})"
        print(f"{model.model_id}  {model.header['kind']}  {origin}, unusual at unseen stations: {rare:.3%}")
    return 0


def _sessions(args: argparse.Namespace) -> Sessions:
    from models.errors import ConfigError
    from pipeline import config as configuration
    from pipeline.replay_sessions import sessions_of

    if not args.log and not args.journal:
        raise ConfigError(f"models {args.action}: expected --log FILE or --journal DIR")
    return sessions_of(configuration.load(args.config, os.environ), args.log, args.journal)


def _shadow(active: SessionModel, shadow: SessionModel, sessions: Sessions, args: argparse.Namespace) -> int:
    aloud, silent = active.score(sessions.features), shadow.score(sessions.features)
    both = aloud.unusual & silent.unusual
    result: dict[str, Any] = {
        "sessions": len(sessions.features),
        "both": int(both.sum()),
        "only_active": int((aloud.unusual & ~silent.unusual).sum()),
        "only_shadow": int((silent.unusual & ~aloud.unusual).sum()),
    }
    different = [
        {
            "station": str(sessions.station[k]),
            "evse": int(sessions.evse[k]),
            "start": int(sessions.start_ns[k]) // 1_000_000,
            "end": int(sessions.end_ns[k]) // 1_000_000,
            "found_by": "active" if aloud.unusual[k] else "shadow",
        }
        for k in (aloud.unusual != silent.unusual).nonzero()[0].tolist()
    ]
    if args.json:
        print(json.dumps(result | {"different": different}))
        return 0
    for name, value in result.items():
        print(f"{name:<12} {value:>8}")
    for item in different[:_DIFFERENT]:
        when = time.strftime("%Y-%m-%dT%H:%MZ", time.gmtime(int(item["start"]) / 1000))
        print(f"  {item['station']}/{item['evse']}  {when}  only by the {item['found_by']} model")
    if len(different) > _DIFFERENT:
        print(f"  and {len(different) - _DIFFERENT} more (--json has all)")
    return 0


def _drift(model: SessionModel, sessions: Sessions, args: argparse.Namespace) -> int:
    from models.learned import drift
    from models.learned.sessions import transformed

    n = len(sessions.features)
    counts = drift.counts_of(transformed(sessions.features)[:, model.used], model.edges)
    indices = drift.stability(model.shares, counts)
    rows = [
        {"feature": name, "psi": round(float(index), 4), "state": drift.word(float(index), n)}
        for name, index in zip(model.header["features"], indices, strict=True)
    ]
    drifted = any(row["state"] == "drifted" for row in rows)
    if args.json:
        print(json.dumps({"sessions": n, "drifted": drifted, "features": rows}))
    else:
        print(f"{n} sessions")
        for row in rows:
            print(f"  {row['feature']:<22} {row['psi']:>8.4f}  {row['state']}")
    return 1 if drifted else 0


def _promote(model: SessionModel, args: argparse.Namespace) -> int:
    from connectors.mqtt import Publisher
    from models.errors import RetryLater
    from models.learned.promotion import TOPIC, promotion
    from models.outputs import Publish
    from pipeline import config as configuration
    from pipeline.ingest import mqtt_settings

    body = json.dumps(promotion(args.role, model.model_id, args.by or getpass.getuser()))
    if args.dry_run:
        print(f"{TOPIC} {body}")
        return 0
    config = configuration.load(args.config, os.environ)
    publisher = Publisher(mqtt_settings(config, f"-models-{time.time_ns():x}"))
    try:
        refused = publisher.publish([Publish(topic=TOPIC, payload=body.encode())])
    finally:
        publisher.close()
    if refused:
        raise RetryLater(f"the broker did not take the request: {refused[0].reason}")
    print(f"{model.model_id}: asked for as {args.role}")
    return 0
