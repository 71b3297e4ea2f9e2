"""The source tree as parsed files, for the tests of its rules."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
ROOMS = ("models", "connectors", "pipeline")
FOLDERS = (*ROOMS, "grafana", "tests")


@dataclass(frozen=True)
class Source:
    """One Python file."""

    path: Path
    text: str
    tree: ast.Module

    @property
    def name(self) -> str:
        """Its path from the root."""
        return self.path.relative_to(ROOT).as_posix()

    @property
    def room(self) -> str:
        """The folder at the root that it lives in."""
        return self.name.split("/")[0]

    def imports(self) -> Iterator[tuple[int, str]]:
        """Yield (line, absolute module name) of everything it imports, also inside functions."""
        package = list(self.path.relative_to(ROOT).with_suffix("").parts[:-1])
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                for alias in node.names:
                    yield node.lineno, alias.name
            elif isinstance(node, ast.ImportFrom):
                base = package[: len(package) + 1 - node.level] if node.level else []
                module = ".".join([*base, *([node.module] if node.module else [])])
                yield node.lineno, module
                for alias in node.names:
                    yield node.lineno, f"{module}.{alias.name}"


@cache
def sources(*folders: str) -> tuple[Source, ...]:
    """Return the parsed Python files of `folders`."""
    return tuple(_parsed(path) for folder in folders for path in sorted((ROOT / folder).rglob("*.py")))


@cache
def _parsed(path: Path) -> Source:
    return parse(path)


def parse(path: Path, text: str | None = None) -> Source:
    """Return one parsed file; `text` stands in for its content."""
    text = path.read_text() if text is None else text
    return Source(path, text, ast.parse(text, str(path)))


Function = ast.FunctionDef | ast.AsyncFunctionDef


def functions(source: Source) -> Iterator[Function]:
    """Yield every function and method of a file."""
    for node in ast.walk(source.tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node
