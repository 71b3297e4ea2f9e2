"""Look at learned models, compare a new one with the one in use, put one into use.

``list`` and ``show`` read the folder of models. ``shadow`` lets two models judge the same recorded sessions
and compares what they would find. ``drift`` says whether recorded sessions are still those a model was
trained for; its exit code is 1 when they are not. Without a log or journal it says so of the running service,
as does ``running``: which models judge, what a shadow has found beside the other one, whether they still fit.
``promote`` asks the running service to judge by a model from now on, or to let it judge in silence: the
request goes through the broker into the journal, so that a replay changes the model at the same place.
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
    from models.learned.catalogue import Learned
    from pipeline.learned_recorded import Recorded

_ACTIONS: Final = {
    "list": "models of a folder",
    "show": "one model: what it was trained on, and what it is worth",
    "shadow": "what a model would find beside another one, on recorded messages",
    "drift": "whether recorded sessions are still those a model was trained for",
    "running": "models of the running service: who judges, what a shadow would find, whether they still fit",
    "promote": "have the running service judge by a model",
}
_DIFFERENT: Final = 20


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``chargestream models``."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    for name, text in _ACTIONS.items():
        sub = actions.add_parser(name, help=text, description=text)
        if name != "running":
            needed = name != "drift"
            sub.add_argument("--models", metavar="DIR", type=Path, required=needed, help="folder of models")
        if name not in {"list", "running"}:
            several: Any = "?" if name == "drift" else None
            sub.add_argument("model", metavar="ID", nargs=several, help="its id, or the first characters")
        if name == "shadow":
            sub.add_argument("--beside", metavar="ID", required=True, help="the model in use")
        if name in {"shadow", "drift"}:
            sub.add_argument(
                "--log",
                metavar="FILE",
                type=Path,
                nargs="+",
                action="extend",
                default=[],
                help="message logs",
            )
            sub.add_argument(
                "--journal",
                metavar="DIR",
                type=Path,
                nargs="+",
                action="extend",
                default=[],
                help="data folders with a journal",
            )
        if name == "promote":
            sub.add_argument(
                "--role", choices=("model", "shadow"), default="model", help="aloud or in silence"
            )
            sub.add_argument("--by", default="", metavar="NAME", help="who does this (default: you)")
            sub.add_argument("--dry-run", action="store_true", help="print the request and send nothing")
        if name in {"shadow", "drift", "running", "promote"}:
            sub.add_argument("--config", metavar="FILE", type=Path, help="TOML file; without it the defaults")
        if name != "promote":
            sub.add_argument("--json", action="store_true", help="print JSON")


def run(args: argparse.Namespace) -> int:
    """Run one action."""
    from models.errors import ConfigError
    from models.learned.catalogue import load
    from models.learned.model_file import find

    if args.action == "list":
        return _list(args)
    if args.action == "running" or (args.action == "drift" and not args.log and not args.journal):
        return _running(args)
    if args.model is None or args.models is None:
        raise ConfigError("models drift: expected a model's ID and --models DIR with a log or journal")
    model = load(find(args.models, args.model))
    if args.action == "show":
        print(json.dumps(_told(model), indent=2 if not args.json else None))
        return 0
    if args.action == "promote":
        return _promote(model, args)
    recorded = _recorded(model, args)
    if args.action == "drift":
        return _drift(model, recorded, args)
    return _shadow(load(find(args.models, args.beside)), model, recorded, args)


def _told(model: Learned) -> dict[str, Any]:
    arrays = {name: list(array.shape) for name, array in model.arrays().items()}
    return {"model": model.model_id, **model.header, "arrays": arrays}


def _list(args: argparse.Namespace) -> int:
    from models.learned.catalogue import ids, load

    for path in ids(args.models):
        model = load(path)
        if args.json:
            print(json.dumps({"model": model.model_id, **model.header}))
            continue
        data, rare = model.header["training"], model.header["metrics"].get("unusual_unseen_station", 0.0)
        origin = f"{data['sessions']} sessions of {data['stations']} stations ({data['fingerprint'][:8]})"
        print(f"{model.model_id}  {model.header['kind']}  {origin}, unusual at unseen stations: {rare:.3%}")
    return 0


def _recorded(model: Learned, args: argparse.Namespace) -> Recorded:
    from models.errors import ConfigError
    from pipeline import config as configuration
    from pipeline.learned_recorded import recorded

    if not args.log and not args.journal:
        raise ConfigError(f"models {args.action}: expected --log FILE or --journal DIR")
    config = configuration.load(args.config, os.environ)
    return recorded(model.header["kind"], config, args.log, args.journal)


def _shadow(active: Learned, shadow: Learned, recorded: Recorded, args: argparse.Namespace) -> int:
    from models.errors import ConfigError

    if active.header["kind"] != shadow.header["kind"]:
        raise ConfigError(
            f"{active.model_id} is about {active.header['kind']}, {shadow.model_id} about"
            f" {shadow.header['kind']}: expected two of one kind"
        )
    aloud, silent = recorded.unusual(active), recorded.unusual(shadow)
    result: dict[str, Any] = {
        "sessions": len(aloud),
        "both": int((aloud & silent).sum()),
        "only_active": int((aloud & ~silent).sum()),
        "only_shadow": int((silent & ~aloud).sum()),
    }
    different = [
        recorded.named(k) | {"found_by": "active" if aloud[k] else "shadow"}
        for k in (aloud != silent).nonzero()[0].tolist()
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


def _drift(model: Learned, recorded: Recorded, args: argparse.Namespace) -> int:
    from models.learned import drift

    names, x = recorded.population(model)
    trained = int(model.header["training"]["sessions"])
    rows = drift.report(names, model.shares, drift.counts_of(x, model.edges), trained)
    drifted = any(row["state"] == "drifted" for row in rows)
    if args.json:
        print(json.dumps({"sessions": len(x), "drifted": drifted, "features": rows}))
    else:
        print(f"{len(x)} sessions")
        _print_drift(rows)
    return 1 if drifted else 0


def _print_drift(rows: list[dict[str, Any]]) -> None:
    for row in rows:
        print(f"  {row['feature']:<22} {row['psi']:>8.4f}  {row['state']}")


def _running(args: argparse.Namespace) -> int:
    from connectors.status import read_status, status_path
    from models.learned.running import merged, problems
    from pipeline import config as configuration

    config = configuration.load(args.config, os.environ)
    data = Path(config.service.data_dir)
    names = sorted(path.stem for path in status_path(data, "x").parent.glob("worker-*.json"))
    entries = merged(part for name in names for part in read_status(data, name).get("models", []))
    if args.json:
        print(json.dumps(entries))
    else:
        for entry in entries:
            print(
                f"{entry['detector']}: model {entry['model'] or 'none'}, shadow {entry['shadow'] or 'none'}"
            )
            print("  sessions judged by both: " + ", ".join(f"{k} {n}" for k, n in entry["compared"].items()))
            print(f"  {entry['sessions']} sessions counted")
            _print_drift(entry["drift"])
            for words in problems(entry):
                print(f"  ! {words}")
        if not entries:
            print(f"{data}: no worker has a folder of models ([detectors.learned_session] models)")
    return 1 if any(entry["drifted"] for entry in entries) else 0


def _promote(model: Learned, args: argparse.Namespace) -> int:
    from connectors.mqtt import Publisher
    from models.errors import RetryLater
    from models.learned.promotion import TOPIC, promotion
    from models.outputs import Publish
    from pipeline import config as configuration
    from pipeline.ingest import mqtt_settings

    body = json.dumps(
        promotion(model.header["kind"], args.role, model.model_id, args.by or getpass.getuser())
    )
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
