"""Change the number of workers: deal the saved state out anew, while nothing runs."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from connectors.cursors import Cursors


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``chargestream rescale``."""
    parser.add_argument("--config", metavar="FILE", type=Path, help="TOML file; without it the defaults")
    parser.add_argument("--workers", type=int, required=True, help="wanted number of workers")


def run(args: argparse.Namespace) -> int:
    """Rescale; the configuration's flow.workers has to be set to the same number afterwards."""
    import os

    from connectors.cursors import Cursors, cursors_path
    from models.errors import ConfigError
    from pipeline import config as configuration
    from pipeline import recovery
    from pipeline.engine import make_recovery

    if not 1 <= args.workers <= 256:
        raise ConfigError(f"--workers {args.workers}: expected 1 to 256")
    config = configuration.load(args.config, os.environ)
    data = Path(config.service.data_dir)
    layout = data / "recovery" / "workers"
    if not layout.exists():
        raise ConfigError(f"{layout.parent}: no saved state of workers here; just set flow.workers")
    before = int(layout.read_text(encoding="utf-8"))
    names = [f"worker-{i:02d}" for i in range(max(before, args.workers))]
    moved = recovery.rescale(
        layout.parent,
        [name for name in names[:before] if (layout.parent / name).exists()],
        names[: args.workers],
        lambda shard: names[shard % args.workers],
        make_recovery,
    )
    with Cursors(cursors_path(data / "journal.db")) as cursors:
        _move_cursors(cursors, names[:before], names[: args.workers])
    layout.write_text(f"{args.workers}\n", encoding="utf-8")
    print(f"{moved} states of {before} workers dealt out; now set flow.workers = {args.workers}")
    return 0


def _move_cursors(cursors: Cursors, before: list[str], after: list[str]) -> None:
    """Give each shard's committed offset to the worker that has the shard now."""

    known = cursors.all()
    offsets = {shard: offset for name in before for shard, offset in known.get(name, {}).items()}
    for name in before:
        cursors.forget(name)
    for index, name in enumerate(after):
        mine = {s: o for s, o in offsets.items() if s % len(after) == index}
        if mine:
            cursors.set_many(name, mine)
