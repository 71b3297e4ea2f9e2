"""Files and functions stay short enough to be read."""

from __future__ import annotations

import ast

import pytest

from ._tree import FOLDERS, ROOMS, ROOT, Function, functions, parse, sources

MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 60


def length(function: Function) -> int:
    """Return the lines of a function without its docstring."""
    lines = (function.end_lineno or function.lineno) - function.lineno + 1
    first = function.body[0]
    if ast.get_docstring(function, clean=False) is not None and first.end_lineno:
        lines -= first.end_lineno - first.lineno + 1
    return lines


def test_no_file_is_longer_than_400_lines() -> None:
    found = {s.name: s.text.count("\n") for s in sources(*FOLDERS)}
    assert {name: n for name, n in found.items() if n > MAX_FILE_LINES} == {}


@pytest.mark.parametrize("folder", FOLDERS)
def test_no_function_is_longer_than_60_lines(folder: str) -> None:
    found = {
        f"{s.name}:{f.lineno} {f.name}": length(f)
        for s in sources(folder)
        for f in functions(s)
        if length(f) > MAX_FUNCTION_LINES
    }
    assert found == {}


def test_a_docstring_does_not_count() -> None:
    source = parse(ROOT / "models/x.py", 'def f():\n    """One.\n\n    Two.\n    """\n    return 1\n')
    assert [length(f) for f in functions(source)] == [2]


def test_only_commands_print() -> None:
    allowed = ("pipeline/commands/", "pipeline/scoring/", "pipeline/cli.py")
    found = [
        f"{s.name}:{node.lineno}"
        for s in sources(*ROOMS)
        if not s.name.startswith(allowed)
        for node in ast.walk(s.tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
    ]
    assert found == []


def test_every_room_says_that_it_is_typed() -> None:
    for room in ROOMS:
        assert (ROOT / room / "py.typed").is_file()
