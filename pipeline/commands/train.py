"""Train a model of finished sessions on recorded messages, and write it into a folder of models.

The isolation forest and the mixture of Gaussians are validated on stations that took no part in fitting. The
model is a file of plain arrays, named by the fingerprint of its content; the same sessions give the same one.
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``chargestream train``."""
    parser.add_argument(
        "--log", metavar="FILE", type=Path, nargs="+", default=[], help="message logs (.jsonl, .gz, .zst)"
    )
    parser.add_argument(
        "--journal", metavar="DIR", type=Path, nargs="+", default=[], help="data folders with a journal"
    )
    parser.add_argument("--models", metavar="DIR", type=Path, required=True, help="folder of models")
    parser.add_argument("--trees", metavar="N", type=int, default=200, help="trees of the forest")
    parser.add_argument("--folds", metavar="N", type=int, default=5, help="groups of stations")
    parser.add_argument(
        "--rare", metavar="SHARE", type=float, default=0.001, help="share of sessions above each level"
    )
    parser.add_argument("--seed", metavar="N", type=int, default=0)
    parser.add_argument("--config", metavar="FILE", type=Path, help="TOML file; without it the defaults")
    parser.add_argument("--json", action="store_true", help="print the result as one JSON line")


def run(args: argparse.Namespace) -> int:
    """Train."""
    from tqdm import tqdm

    from models.errors import ConfigError
    from models.learned import training
    from models.learned.session_model import save
    from pipeline import config as configuration
    from pipeline.replay_sessions import sessions_of

    if not args.log and not args.journal:
        raise ConfigError("train: expected --log FILE or --journal DIR")
    settings = training.TrainingConfig(trees=args.trees, folds=args.folds, rare=args.rare, seed=args.seed)
    config = configuration.load(args.config, os.environ)
    with tqdm(desc="reading", unit=" messages", disable=None, leave=False) as bar:
        sessions = sessions_of(config, args.log, args.journal, bar.update)
    with tqdm(total=training.steps(settings), desc="fitting", disable=None, leave=False) as bar:

        def step(word: str) -> None:
            bar.set_postfix_str(word)
            bar.update()

        model = training.train(sessions.features, sessions.station, settings, step)
    path = save(model, args.models)
    header = model.header
    if args.json:
        print(json.dumps({"model": model.model_id, "path": str(path), **header}))
    else:
        data = header["training"]
        print(f"{path}: {data['sessions']} sessions of {data['stations']} stations")
        print(f"  features  {', '.join(header['features'])}")
        for name, value in header["metrics"].items():
            print(f"  {name:<30} {value:.4f}")
    return 0
