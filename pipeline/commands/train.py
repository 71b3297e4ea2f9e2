"""Train a model on recorded messages, and write it into a folder of models.

``--kind session`` (the default): an isolation forest and a mixture of Gaussians over the features of finished
sessions. ``--kind power``: what vehicles of a class take minute by minute, as a band from quantile gradient
boosting. Both are validated on stations that took no part in fitting. A model is a file of plain arrays,
named by the fingerprint of its content; the same sessions give the same one.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from models.learned.catalogue import Learned
    from pipeline.config import Config

_KINDS: Final = ("session", "power")
_TREES: Final = {"session": 200, "power": 60}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``chargestream train``."""
    parser.add_argument("--kind", choices=_KINDS, default="session", help="what the model is about (session)")
    parser.add_argument(
        "--log",
        metavar="FILE",
        type=Path,
        nargs="+",
        action="extend",
        default=[],
        help="message logs (.jsonl, .gz, .zst)",
    )
    parser.add_argument(
        "--journal",
        metavar="DIR",
        type=Path,
        nargs="+",
        action="extend",
        default=[],
        help="data folders with a journal",
    )
    parser.add_argument("--models", metavar="DIR", type=Path, required=True, help="folder of models")
    parser.add_argument(
        "--trees", metavar="N", type=int, help="trees of the forest (200), or of each part of a band (60)"
    )
    parser.add_argument("--folds", metavar="N", type=int, default=5, help="groups of stations")
    parser.add_argument(
        "--rare", metavar="SHARE", type=float, default=0.001, help="share of sessions beyond the level"
    )
    parser.add_argument("--seed", metavar="N", type=int, default=0)
    parser.add_argument("--config", metavar="FILE", type=Path, help="TOML file; without it the defaults")
    parser.add_argument("--json", action="store_true", help="print the result as one JSON line")


def run(args: argparse.Namespace) -> int:
    """Train."""
    from models.errors import ConfigError
    from models.learned.model_file import save
    from pipeline import config as configuration

    if not args.log and not args.journal:
        raise ConfigError("train: expected --log FILE or --journal DIR")
    settings: dict[str, Any] = {name: getattr(args, name) for name in ("folds", "rare", "seed")}
    settings["trees"] = _TREES[args.kind] if args.trees is None else args.trees
    config = configuration.load(args.config, os.environ)
    made = {"session": _sessions, "power": _power}[args.kind](config, args, settings)
    path = save(made, args.models)
    header = made.header
    if args.json:
        print(json.dumps({"model": made.model_id, "path": str(path), **header}))
        return 0
    data = header["training"]
    print(f"{path}: {data['sessions']} sessions of {data['stations']} stations")
    print(f"  features  {', '.join(header['features'])}")
    for name, value in header["metrics"].items():
        print(f"  {name:<30} {value:.4f}")
    return 0


def _sessions(config: Config, args: argparse.Namespace, settings: dict[str, Any]) -> Learned:
    from models.learned import training
    from pipeline.replay_sessions import sessions_of

    wanted = training.TrainingConfig(**settings)
    with _bar("reading", " messages") as bar:
        sessions = sessions_of(config, args.log, args.journal, bar.update)
    with _bar("fitting", " fits", training.steps(wanted)) as bar:
        return training.train(sessions.features, sessions.station, wanted, _stepping(bar))


def _power(config: Config, args: argparse.Namespace, settings: dict[str, Any]) -> Learned:
    from models.learned import power_training
    from pipeline.replay_sessions import power_rows_of

    wanted = power_training.PowerConfig(**settings)
    with _bar("reading", " messages") as bar:
        rows = power_rows_of(config, args.log, args.journal, bar.update)
    with _bar("fitting", " fits", power_training.steps(wanted)) as bar:
        return power_training.train(rows, wanted, _stepping(bar))


def _bar(what: str, unit: str, total: int | None = None) -> Any:
    from tqdm import tqdm

    return tqdm(desc=what, unit=unit, total=total, disable=None, leave=False)


def _stepping(bar: Any) -> Callable[[str], None]:
    def step(word: str) -> None:
        bar.set_postfix_str(word)
        bar.update()

    return step
