"""Score detection on labelled data: public benchmarks of anomaly detection, faults with known truth."""

from __future__ import annotations

import argparse

from models import plugins

_PACKAGE = "pipeline.scoring"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add one subcommand for every module of `pipeline.scoring`."""
    subjects = parser.add_subparsers(dest="subject", metavar="SUBJECT", required=True)
    for name in plugins.names(_PACKAGE):
        module = plugins.load(_PACKAGE, name)
        summary = (module.__doc__ or "").strip().splitlines()[0]
        sub = subjects.add_parser(name.replace("_", "-"), help=summary, description=module.__doc__)
        module.add_arguments(sub)
        sub.set_defaults(score=module.run)


def run(args: argparse.Namespace) -> int:
    """Run the subcommand."""
    return int(args.score(args))
