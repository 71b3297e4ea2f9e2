"""The documentation as data: code blocks, the commands in them, links, headings."""

from __future__ import annotations

import re
import shlex
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from ._tree import ROOT

README = ROOT / "README.md"
PAGES = (README, *sorted((ROOT / "docs").glob("*.md")))

_FENCE = re.compile(r"^ *```(\w*)\s*$")
_NOT_RUN = re.compile(r"^ *<!-- not run: (.*?) -->$")
_ASSIGNED = r"(?:[A-Z][A-Z0-9_]*=(?:'[^']*'|\"[^\"]*\"|\S*) +)*"
_OURS = re.compile(rf"^ *{_ASSIGNED}(?:\S*/)?(?:chargestream|make) ")
_EXIT = re.compile(r"#.*\bexit code (\d+)")


@dataclass(frozen=True)
class Block:
    """One fenced block; `reason` is why it is not run, from the comment in front of it."""

    page: Path
    line: int
    language: str
    text: str
    reason: str

    @property
    def place(self) -> str:
        """Page and line."""
        return f"{self.page.relative_to(ROOT)}:{self.line}"


@dataclass(frozen=True)
class Command:
    """One command line of ours; `words` begin with ``chargestream`` or ``make``."""

    block: Block
    words: tuple[str, ...]
    environment: dict[str, str] = field(default_factory=dict)
    output: str = ""  # file that its standard output goes to
    exit_code: int = 0

    @property
    def name(self) -> str:
        """The command of chargestream, or the target of make."""
        return self.words[1]

    def __str__(self) -> str:
        return f"{self.block.place}: {shlex.join(self.words)}"


def blocks(page: Path) -> Iterator[Block]:
    """Yield the fenced blocks of a page."""
    lines = page.read_text().splitlines()
    start, language = -1, ""
    for number, line in enumerate(lines):
        fence = _FENCE.match(line)
        if fence and start < 0:
            start, language = number, fence[1]
        elif fence:
            marked = _NOT_RUN.match(lines[start - 1]) if start else None
            text = textwrap.dedent("\n".join(lines[start + 1 : number])) + "\n"
            yield Block(page, start + 1, language, text, marked[1] if marked else "")
            start = -1
    assert start < 0, f"{page}: a block that begins in line {start + 1} does not end"


def commands(block: Block) -> Iterator[Command]:
    """Yield the command lines of ours in a shell block."""
    for line in block.text.replace("\\\n", " ").splitlines():
        if not _OURS.match(line):
            continue
        words = shlex.split(line, comments=True)
        environment = {}
        while re.match(r"[A-Z][A-Z0-9_]*=", words[0]):
            key, _, value = words.pop(0).partition("=")
            environment[key] = value
        output = ""
        if ">" in words:
            output = words[words.index(">") + 1]
            words = words[: words.index(">")]
        program = words[0].rpartition("/")[2]
        code = _EXIT.search(line)
        yield Command(block, (program, *words[1:]), environment, output, int(code[1]) if code else 0)


def code_of(page: Path) -> str:
    """Return everything on a page that is set as code."""
    text = page.read_text()
    inline = re.findall(r"`([^`\n]+)`", re.sub(r"```.*?```", "", text, flags=re.DOTALL))
    return "\n".join([*(block.text for block in blocks(page)), *inline])


def prose(page: Path) -> str:
    """Return a page without its fenced blocks."""
    return re.sub(r"^ *```.*?^ *```", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)


def links(page: Path) -> list[str]:
    """Return the targets of a page's links and pictures."""
    return re.findall(r"\]\(([^)\s]+)\)", prose(page))


def anchors(page: Path) -> set[str]:
    """Return what ``#…`` may name on a page."""
    titles = re.findall(r"^#+ +(.*)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}
