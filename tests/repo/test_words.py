"""What must not stand in any file: places of one machine, registries, leftovers, stubs."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from ._tree import FOLDERS, ROOMS, ROOT, sources

# Written with a class in each, so that this file does not hold what it looks for.
PLACES = re.compile(
    r"(/w[o]rk/|/f[a]rm/|/r[o]ot/|pythonh[o]sted|p[y]pi\.org/[sp]|npm[j]s\.org|d[e]b\.d[e]bian)"
)
LEFTOVERS = re.compile(r"\b(TO[D]O|FIX[M]E|X[X]X)\b|pragma: no co[v]er")
IGNORES = re.compile(
    r"#\s*(?:type: ign[o]re|no[q]a)(\[[\w\-, ]+\]|:\s*[A-Z0-9, ]+)?\s*(#.*|\S.*)?$", re.MULTILINE
)


def tracked() -> list[Path]:
    """Return the files of the repository: tracked ones and new ones that are not ignored."""
    try:
        listed = subprocess.run(
            ["git", "ls-files", "-co", "--exclude-standard"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        ).stdout.splitlines()
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("this is no git checkout: nothing says which files are ours")
    return [ROOT / name for name in listed if (ROOT / name).is_file()]


def offences(pattern: re.Pattern[str], path: Path, text: str) -> list[str]:
    name = path.relative_to(ROOT)
    return [
        f"{name}:{number} {line.strip()[:100]}"
        for number, line in enumerate(text.splitlines(), 1)
        if pattern.search(line)
    ]


def test_no_machine_path_and_no_registry_host() -> None:
    found = []
    for path in tracked():
        text = path.read_bytes().decode(errors="ignore")
        found += offences(PLACES, path, text)
    assert found == []


def test_the_patterns_find_what_they_look_for() -> None:
    for text in ("/wo" + "rk/main", "https://p" + "ypi.org/simple", "/ro" + "ot/x", "d" + "eb.debian.org"):
        assert PLACES.search(text)
    assert LEFTOVERS.search("# TO" + "DO later")
    assert not LEFTOVERS.search("a todo list")


def test_no_leftovers_and_no_stubs() -> None:
    found = [line for s in sources(*FOLDERS) for line in offences(LEFTOVERS, s.path, s.text)]
    stub = re.compile(r"raise NotImpl[e]mentedError")
    found += [line for s in sources(*ROOMS) for line in offences(stub, s.path, s.text)]
    assert found == []


def test_every_ignore_names_its_rule_and_its_reason() -> None:
    found = []
    for source in sources(*FOLDERS):
        for match in IGNORES.finditer(source.text):
            if not match[1] or not match[2]:
                line = source.text.count("\n", 0, match.start()) + 1
                found.append(f"{source.name}:{line} {match[0]}")
    assert found == []
