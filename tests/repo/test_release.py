"""Version, changelog, lock, docs and packages agree."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from models import plugins
from pipeline import cli, config, selfcheck
from pipeline.config_fields import field_at

from ._tree import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
DOCS = [*sorted((ROOT / "docs").rglob("*.md")), ROOT / "README.md"]
#: Environment variables that are no setting of the configuration.
OTHER_VARIABLES = {"CHARGESTREAM_DATA", "CHARGESTREAM_TEST_SEED", "CHARGESTREAM_ROUTES"}


def test_the_changelog_begins_with_this_version() -> None:
    text = (ROOT / "CHANGELOG.md").read_text()
    versions = re.findall(r"^## \[?(\d+\.\d+\.\d+)\]?", text, re.MULTILINE)
    assert versions[:1] == [PROJECT["project"]["version"]]
    assert cli.version() == PROJECT["project"]["version"]


def lock_entries() -> list[str]:
    text = (ROOT / "requirements.lock").read_text()
    return [entry.replace("\\\n", " ") for entry in re.split(r"\n(?=\S)", text.strip())]


def test_every_locked_package_has_a_version_and_a_hash() -> None:
    for entry in lock_entries():
        assert re.fullmatch(
            r"[a-z0-9._-]+(\[[a-z,]+\])?==\S+( ; [^-]*)?(\s+--hash=sha256:[0-9a-f]{64})+\s*", entry
        ), entry
        assert "://" not in entry


def test_the_lock_holds_every_dependency() -> None:
    locked = {re.split(r"[=\[ ;]", entry)[0] for entry in lock_entries()}
    wanted = list(PROJECT["project"]["dependencies"])
    for extra in PROJECT["project"]["optional-dependencies"].values():
        wanted += extra
    names = {re.split(r"[\[<>=!~ ;]", item)[0].lower().replace("_", "-") for item in wanted}
    assert names - locked == set()


def test_the_three_packages_are_ours() -> None:
    selfcheck.packages()


def test_another_package_of_the_same_name_is_found_out(tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "__init__.py").write_text("")
    script = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import models\n"
        f"models.__path__.append({str(ROOT / 'models')!r})\n"
        "from pipeline import selfcheck; selfcheck.packages()"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode != 0
    assert f"models is {tmp_path}/models/__init__.py" in done.stderr
    assert "expected" in done.stderr


def test_exit_codes_mean_what_the_documentation_says() -> None:
    codes = {name: value for name, value in vars(cli).items() if name.startswith("EXIT_")}
    assert codes == {
        "EXIT_OK": 0, "EXIT_FAILED": 1, "EXIT_USAGE": 2, "EXIT_UNAVAILABLE": 69, "EXIT_STORAGE": 74,
    }  # fmt: skip


def commands() -> dict[str, set[str]]:
    """Return every command with its options."""
    parser = cli.build_parser()
    found = next(a for a in parser._actions if a.dest == "command")
    assert isinstance(found.choices, dict)
    return {name: set(sub._option_string_actions) for name, sub in found.choices.items()}


def documented() -> list[tuple[str, str]]:
    """Return (place, command line) of every ``chargestream ...`` in the docs' code."""
    found = []
    for path in DOCS:
        text = path.read_text()
        code = re.findall(r"```[^\n]*\n(.*?)```", text, re.DOTALL) + re.findall(r"`([^`\n]+)`", text)
        for block in code:
            for line in block.replace("\\\n", " ").splitlines():
                for match in re.finditer(r"(?:^|[\s/$(])chargestream +([^|>&#]*)", line):
                    found.append((path.name, match[1]))
    return found


def test_commands_and_options_in_the_docs_exist() -> None:
    known = commands()
    wrong = []
    for place, line in documented():
        words = line.split()
        if words[0].startswith("-"):
            continue
        name = words[0].strip("…,.;:{")
        if name not in known:
            wrong.append(f"{place}: chargestream {line}: no command {name!r}")
            continue
        options = {w.split("=")[0].strip("[]….,;)") for w in words[1:] if w.startswith(("--", "[--"))}
        text = subcommand_options(name)
        wrong += [f"{place}: chargestream {line}: no option {o}" for o in options if o not in text]
    assert wrong == []


def subcommand_options(name: str) -> set[str]:
    """Return the options of a command and of its own sub-commands."""
    parser = cli.build_parser()
    action = next(a for a in parser._actions if a.dest == "command")
    assert isinstance(action.choices, dict)
    waiting, found = [action.choices[name]], set()
    while waiting:
        sub = waiting.pop()
        found |= set(sub._option_string_actions)
        for inner in sub._actions:
            if isinstance(inner.choices, dict):
                waiting += list(inner.choices.values())
    return found


def is_setting(variable: str) -> bool:
    keys = tuple(variable.removeprefix("CHARGESTREAM_").lower().split("__"))
    if keys[0] == "detectors":
        return len(keys) > 2 and keys[1] in plugins.names("models.detectors")
    return len(keys) > 1 and field_at(config.Config, keys) is not None


def test_environment_variables_in_the_docs_exist() -> None:
    wrong = [
        f"{path.name}: {variable}"
        for path in DOCS
        for variable in re.findall(r"CHARGESTREAM_[A-Z0-9_]*[A-Z0-9]", path.read_text())
        if variable not in OTHER_VARIABLES and not is_setting(variable)
    ]
    assert wrong == []


def test_settings_in_the_docs_exist() -> None:
    sections = set(config.Config.model_fields) - {"routes", "detectors", "dialects"}
    wrong = [
        f"{path.name}: {section}.{key}"
        for path in DOCS
        for section, key in re.findall(r"`\[?(\w+)\]?[. ](\w+)(?: = [^`]*)?`", path.read_text())
        if section in sections
        and key not in {"py", "db", "sqlite", "csv", "jsonl"}
        and field_at(config.Config, (section, key)) is None
    ]
    assert wrong == []


def test_make_targets_in_the_docs_exist() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    wrong = [
        f"{path.name}: make {target}"
        for path in DOCS
        for target in re.findall(r"`(?:\S+=\S+ )*make ([a-z]+)", path.read_text())
        if target not in targets
    ]
    assert {"demo", "test", "check", "bench", "soak", "clean", "lock"} <= targets
    assert wrong == []


def test_every_detector_has_its_naive_twin() -> None:
    detectors = plugins.names("models.detectors")
    if not detectors:
        pytest.skip("no detector yet")
    twins = set(plugins.names("tests.naive"))
    assert sorted(set(detectors) - twins) == []


def test_the_ci_script_is_executable() -> None:
    for name in ("run", "setup"):
        assert (ROOT / ".ci" / name).stat().st_mode & 0o111
