"""Who may import whom: models are pure, connectors speak, stages do not know each other."""

from __future__ import annotations

import ast
import itertools
import sys

import pytest

from ._tree import ROOT, Source, functions, parse, sources

#: What `models` may import beyond itself and the standard library.
MODEL_LIBRARIES = {
    "numpy",
    "numba",
    "msgspec",
    "pydantic",
    "pydantic_core",
    "ocpp",
    "holidays",
    "cryptography",
    "ecdsa",
}
#: Standard modules that read the world outside; models get it handed in.
OUTSIDE = {
    "asyncio", "http", "logging", "multiprocessing", "os", "pathlib", "random", "secrets", "select", "shutil",
    "signal", "socket", "sqlite3", "ssl", "subprocess", "tempfile", "time", "urllib",
}  # fmt: skip
#: Files of `pipeline` that see everything: the picture, the parents, the commands, the process mains.
SEES_ALL = (
    "pipeline/flow.py", "pipeline/supervisor.py", "pipeline/cli.py", "pipeline/commands/", "pipeline/ingest",
    "pipeline/egress", "pipeline/worker", "pipeline/replay", "pipeline/evidence.py", "pipeline/demo",
    "pipeline/drill", "pipeline/bench", "pipeline/engine.py", "pipeline/scoring/",
)  # fmt: skip
#: Stages and what they are made of: they import models, their own parts, and no other stage.
STAGES = ("decode", "order", "detect", "bill", "control", "emit")
#: Order hands raw messages to its decoder: together they are the first stage.
FORBIDDEN_PAIRS = set(itertools.permutations(STAGES, 2)) - {("order", "decode")}
#: Ways to the clock that no import gives away.
CLOCKS = {"now", "utcnow", "today"}


#: Part of a module that reads the world outside, and pure itself.
PURE = "urllib.parse"


def libraries(source: Source) -> set[tuple[int, str]]:
    named = ((line, name) for line, name in source.imports() if not f"{name}.".startswith(f"{PURE}."))
    return {(line, name.split(".")[0]) for line, name in named}


def model_offences(source: Source) -> list[str]:
    allowed = MODEL_LIBRARIES | {"models"} | (set(sys.stdlib_module_names) - OUTSIDE)
    if source.name.startswith("models/learned/"):
        allowed |= {"sklearn", "threadpoolctl", "pathlib"}
    if source.name == "models/_cache.py":
        allowed |= {"os", "pathlib"}  # fingerprints the package's own files, before any kernel is loaded
    found = [
        f"{source.name}:{line} imports {name}" for line, name in libraries(source) if name not in allowed
    ]
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Attribute) and node.attr in CLOCKS:
            owner = ast.unparse(node.value)
            if owner.split(".")[-1] in {"datetime", "date"}:
                found.append(f"{source.name}:{node.lineno} asks the OS for the time: {owner}.{node.attr}")
    return found


def connector_offences(source: Source) -> list[str]:
    return [
        f"{source.name}:{line} imports {name}"
        for line, name in libraries(source)
        if name in {"pipeline", "bytewax", "grafana", "tests"}
    ]


def pipeline_offences(source: Source) -> list[str]:
    found = {}
    for line, name in source.imports():
        room, stage = (*name.split("."), "")[:2]
        reason = ""
        if room == "bytewax" and source.name != "pipeline/engine.py":
            reason = "only pipeline/engine.py may"
        elif room in {"grafana", "tests"}:
            reason = "the service knows neither"
        elif source.path.stem in STAGES and room == "connectors":
            reason = "stages know no connectors"
        elif room == "pipeline" and (source.path.stem, stage) in FORBIDDEN_PAIRS:
            reason = "stages do not know each other"
        elif room == "connectors" and not source.name.startswith(SEES_ALL):
            reason = "only the picture, commands and process mains see connectors"
        if reason:
            found[line] = f"{source.name}:{line} imports {room}.{stage}: {reason}"
    return list(found.values())


def style_offences(source: Source) -> list[str]:
    """Relative inside a folder, absolute between rooms and upwards."""
    found = []
    folder = ".".join(source.path.parent.relative_to(ROOT).parts)
    for node in ast.walk(source.tree):
        if not isinstance(node, ast.ImportFrom):
            continue
        if node.level > 1:
            found.append(f"{source.name}:{node.lineno} imports from a parent by dots; write the room's name")
        elif node.level == 0 and folder in {node.module, (node.module or "").rpartition(".")[0]}:
            found.append(f"{source.name}:{node.lineno} imports its own folder absolutely; write a dot")
    return found


def kernel_offences(source: Source) -> list[str]:
    """Every njit caches, and none has fastmath."""
    found = []
    for node in ast.walk(source.tree):
        if isinstance(node, ast.keyword) and node.arg == "fastmath" and ast.unparse(node.value) != "False":
            found.append(f"{source.name}:{node.value.lineno} fastmath must be False")
    for function in functions(source):
        for decorator in function.decorator_list:
            call = decorator.func if isinstance(decorator, ast.Call) else decorator
            name = call.attr if isinstance(call, ast.Attribute) else getattr(call, "id", "")
            if name in {"njit", "jit"}:
                given = (
                    {k.arg: k.value for k in decorator.keywords} if isinstance(decorator, ast.Call) else {}
                )
                cache = given.get("cache")
                if not (isinstance(cache, ast.Constant) and cache.value is True):
                    found.append(f"{source.name}:{function.lineno} {function.name}: njit without cache=True")
    return found


RULES = [
    (model_offences, ("models",)),
    (connector_offences, ("connectors",)),
    (pipeline_offences, ("pipeline",)),
    (style_offences, ("models", "connectors", "pipeline")),
    (kernel_offences, ("models", "connectors", "pipeline")),
]


@pytest.mark.parametrize(("rule", "rooms"), RULES, ids=lambda v: getattr(v, "__name__", ""))
def test_the_tree_keeps_the_rule(rule: object, rooms: tuple[str, ...]) -> None:
    assert callable(rule)
    assert [offence for source in sources(*rooms) for offence in rule(source)] == []


@pytest.mark.parametrize(
    ("name", "text", "offence"),
    [
        ("models/x.py", "import sqlite3", "imports sqlite3"),
        ("models/x.py", "from urllib.parse import quote\nimport urllib.request", "imports urllib"),
        ("models/x.py", "from connectors import journal", "imports connectors"),
        ("models/x.py", "def f():\n    import paho.mqtt", "imports paho"),
        ("models/x.py", "import datetime as d\nx = d.datetime.now(d.UTC)", "asks the OS for the time"),
        ("models/x.py", "import sklearn", "imports sklearn"),
        ("connectors/x.py", "from pipeline import config", "imports pipeline"),
        ("pipeline/bill.py", "from .order import OrderStage", "stages do not know each other"),
        ("pipeline/bill.py", "from connectors import ledger", "stages know no connectors"),
        ("pipeline/bill.py", "import bytewax.operators", "only pipeline/engine.py may"),
        ("pipeline/commands/x.py", "from bytewax import run", "only pipeline/engine.py may"),
        ("pipeline/x.py", "from pipeline import config", "write a dot"),
        ("pipeline/x.py", "from pipeline.config import Config", "write a dot"),
        ("pipeline/x.py", "from connectors import ledger", "only the picture"),
        ("models/detectors/x.py", "from ..batch import I64", "write the room's name"),
        ("models/x.py", "@njit(cache=True, fastmath=True)\ndef f(): ...", "fastmath must be False"),
        ("models/x.py", "@njit\ndef f(): ...", "njit without cache=True"),
        ("models/x.py", "@numba.njit(nogil=True)\ndef f(): ...", "njit without cache=True"),
    ],
)
def test_the_rules_find_offences(name: str, text: str, offence: str) -> None:
    source = parse(ROOT / name, text)
    found = [line for rule, rooms in RULES if source.room in rooms for line in rule(source)]
    assert len(found) == 1
    assert offence in found[0]
    assert found[0].startswith(f"{name}:")
