"""The documentation tells the truth: its commands run, its links lead somewhere, nothing is left out."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import logging
import re
import shutil
import sys
import xml.etree.ElementTree
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from connectors.outbox import DeadLetter
from models import plugins
from models.batch import MessageColumns, ReadingBatch
from models.channels import CHANNEL_ID
from models.detecting import CLEAR, RAISE, Emissions, Observed
from models.devices import DeviceTable
from pipeline import cli, engine, replay_log
from pipeline.config import Config
from tests.unit import _firmware_repo as images
from tests.unit import _ocmf_signing as signing

from . import _docs
from ._docs import PAGES, README, Block, Command
from ._tree import ROOT

#: Why a block is not run here -> the commands that may be excused by it.
REASONS = {
    "needs a running service": {"maintenance"},
    "runs until stopped": {"run", "ingest", "worker", "egress", "api", "demo"},
    "needs a broker": {"record", "simulate", "finding", "load", "campaign", "command", "ocpi"},
    "needs a bill": {"explain"},
    "serves until stopped": {"firmware"},
    "needs servers": {"drill", "notify", "reactions"},
    "takes minutes": {"bench", "drill", "export", "reconcile", "replay", "score", "simulate"},
    "needs data that is not shipped": {"score", "train", "models"},
}
#: Commands that are never run here.
EXCUSED = REASONS["runs until stopped"] | {"record"}
#: 2026-11-24T08:30Z, which the examples of the journal's export are about.
START_MS = 1_795_509_000_000
SHELL = [block for page in PAGES for block in _docs.blocks(page) if block.language == "sh"]
OURS = [command for block in SHELL for command in _docs.commands(block)]
RUN = [c for c in OURS if c.words[0] == "chargestream" and not c.block.reason]
PYTHON = [block for page in PAGES for block in _docs.blocks(page) if block.language == "python"]
SKETCH = "a sketch"  # it needs what stands around it, or leaves parts to the reader
#: The example of a detector in docs/architecture.md.
EXAMPLE = "capacitance_high"


def ids(value: object) -> str:
    return value.stem if isinstance(value, Path) else ""


@pytest.fixture(autouse=True)
def logging_as_before() -> Iterator[None]:
    """Take back what a command did to the log, whose stream ends with it."""
    log = logging.getLogger("chargestream")
    before = (list(log.handlers), log.level, log.propagate)
    yield
    log.handlers[:], log.level, log.propagate = before


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make what the pages take for granted: a configuration, a data folder, a recorded log."""
    folder = tmp_path_factory.mktemp("world")
    log = folder / "today.jsonl.zst"
    made = ["--hours", "0.1", "--stations", "2", "--start", str(START_MS)]
    with contextlib.redirect_stdout(io.StringIO()) as sample:
        assert cli.main(["config"]) == 0
    (folder / "chargestream.toml").write_text(sample.getvalue())
    (folder / "strict.toml").write_text("[detectors.over_current]\nfactor = 1.05\n")
    with contextlib.redirect_stdout(io.StringIO()):
        assert cli.main(["simulate", "--log", str(log), *made]) == 0
    data = folder / "var"
    (data / "recovery" / "worker-00").mkdir(parents=True)
    engine.make_recovery(data / "recovery" / "worker-00")
    (data / "recovery" / "workers").write_text("1\n")
    replay_log.write_journal(Config(), log, data / "journal.db")
    shutil.copy(log, folder / "messages.jsonl.zst")
    for name in ("pricing", "prices"):
        for path in (ROOT / "tests" / "golden" / name).iterdir():
            shutil.copy(path, folder / path.name)
    (folder / "session.ocmf").write_text(signing.record(signing.BEGIN, signing.END))
    (folder / "meter-keys.toml").write_text(f'[keys]\n"meter-1" = "{signing.spki("secp256r1")}"\n')
    _add_firmware(folder)
    with DeadLetter(data / "dead-letter.db") as letters:
        letters.add("influx", "points", 1, b"ev_1m power_w=1 1\n", "field type conflict", START_MS)
    return folder


def _add_firmware(folder: Path) -> None:
    """A vendor's image with its signature and certificates, and a repository that holds the next version."""
    data, who = images.DATA, images.vendor_now()
    (folder / "wall22.bin").write_bytes(data)
    (folder / "wall22.sig").write_text(who.signer.sign(data))
    (folder / "vendor-signing.pem").write_text(who.certificates)
    (folder / "vendor-root.pem").write_text(who.root.pem)
    kept = images.Kept(folder / "firmware")
    kept.add(version="2.4.1", model="Wall 22")
    (folder / "firmware-root.json").write_bytes(kept.pinned)
    (folder / "url-secret").write_text("0123456789abcdef" * 4)
    (folder / "firmware.toml").write_text(
        '[firmware]\nenabled = true\nrepository = "firmware/repo"\nroot_file = "firmware-root.json"\n'
        'url_secret = "file:url-secret"\npublic_url = "https://firmware.example"\n'
    )


def test_every_command_line_is_understood(capsys: pytest.CaptureFixture[str]) -> None:
    targets = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    parser = cli.build_parser()
    wrong = []
    for command in OURS:
        words = command.words[1:]
        if command.words[0] == "make":
            target, *rest = words
            more = [w.removeprefix("ARGS=").split() for w in rest if w.startswith("ARGS=")]
            words = ("drill", "crash") if target == "soak" else (target,)
            words = (*words, *(word for part in more for word in part))
            if target not in targets:
                wrong.append(f"{command}: no such target")
            if not more:
                continue
        try:
            parser.parse_args(words)
        except SystemExit as end:
            if end.code:
                wrong.append(f"{command}: {capsys.readouterr().err.strip().splitlines()[-1]}")
    assert wrong == []
    assert len(OURS) > 40


def test_a_wrong_command_line_is_found_out() -> None:
    block = Block(README, 1, "sh", "A='[1, 2]' chargestream replay \\\n  --imput x > y  # exit code 2\n", "")
    (command,) = _docs.commands(block)
    assert command.words == ("chargestream", "replay", "--imput", "x")
    assert (command.environment, command.output, command.exit_code) == ({"A": "[1, 2]"}, "y", 2)
    with pytest.raises(SystemExit):
        cli.build_parser().parse_args(command.words[1:])


def run(command: Command) -> tuple[int, str]:
    """Run a command in the present folder; return exit code and standard output."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        try:
            code = cli.main(list(command.words[1:]))
        except SystemExit as end:
            code = int(end.code or 0)
    return code, out.getvalue()


@pytest.mark.parametrize("page", [p for p in PAGES if any(c.block.page == p for c in RUN)], ids=ids)
def test_what_a_page_shows_runs(
    page: Path,
    world: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = shutil.copytree(world, tmp_path / "folder")
    monkeypatch.chdir(folder)
    for command in RUN:
        if command.block.page != page:
            continue
        with monkeypatch.context() as patch:
            for key, value in command.environment.items():
                patch.setenv(key, value)
            code, out = run(command)
        assert code == command.exit_code, f"{command}: {out}{capsys.readouterr().err}"
        if command.output:
            (folder / command.output).write_text(out)
        for option in ("--out", "--log", "--truth"):
            if option in command.words:
                made = folder / command.words[command.words.index(option) + 1]
                assert made.is_dir() or made.stat().st_size > 0, command


def test_what_is_not_run_has_a_reason_that_holds() -> None:
    wrong = []
    for block in SHELL:
        names = {c.name for c in _docs.commands(block) if c.words[0] == "chargestream"}
        if block.reason and (not names or names - REASONS.get(block.reason, set())):
            wrong.append(f"{block.place}: {block.reason!r} excuses none of {sorted(names)}")
        if not block.reason and names & EXCUSED:
            wrong.append(f"{block.place}: {sorted(names & EXCUSED)} cannot be run here; say why")
    for block in PYTHON:
        compile(block.text, block.place, "exec")  # a sketch, too, is Python
        wrong += [f"{block.place}: {block.reason}"] if block.reason not in {"", SKETCH} else []
    assert wrong == []
    ours = re.compile(r"^(?: {4})?(?:\$ |\.venv/bin/)?(?:chargestream|make) [a-z-]+ ", re.MULTILINE)
    unmarked = [b for p in PAGES for b in _docs.blocks(p) if b.language == ""]
    hidden = [b.place for b in unmarked if ours.search(b.text)]
    hidden += [p.name for p in PAGES if re.search(r"^ {4}chargestream ", _docs.prose(p), re.MULTILINE)]
    assert hidden == [], "write these commands into blocks of sh"


@pytest.mark.parametrize(
    "block",
    [b for b in PYTHON if b.page.stem != "architecture" and b.reason != SKETCH],
    ids=lambda b: b.page.stem,
)
def test_python_on_a_page_runs(block: Block, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with contextlib.redirect_stdout(io.StringIO()) as out:
        exec(compile(block.text, block.place, "exec"), {"__name__": "__main__"})
    assert out.getvalue()


def observed(values: list[float]) -> Observed:
    """Return readings of one EVSE, 10 s apart, with the channel that the example reads."""
    devices = DeviceTable()
    node = devices.node(devices.site("S"), "N")
    devices.evse(devices.station(0, "N", node), 1, node)
    rows = ReadingBatch.empty(len(values), (CHANNEL_ID["x.Isolation.C"],))
    rows.values[0] = values
    rows.time_ns[:] = rows.effect_ns[:] = np.arange(len(values)) * 10_000_000_000 + START_MS * 1_000_000
    rows.order[:] = np.arange(len(values))
    return Observed(devices, rows, MessageColumns.empty(), [])


def test_the_example_of_a_detector_works(tmp_path: Path) -> None:
    """Raised at the second reading beyond the limit, cleared a minute after the last."""
    (block,) = [b for b in PYTHON if b.page.stem == "architecture"]
    path = tmp_path / f"{EXAMPLE}.py"
    path.write_text(block.text)
    spec = importlib.util.spec_from_file_location(f"models.detectors.{EXAMPLE}", path)
    assert spec is not None
    assert spec.loader is not None
    module: Any = importlib.util.module_from_spec(spec)
    before = sys.modules.get(spec.name)
    sys.modules[spec.name] = module
    try:
        spec.loader.exec_module(module)
        detector = module.build(module.Config())
        out = Emissions()
        detector.process(observed([1.0, 7.0, float("nan"), 8.0, *[1.0] * 8]), out)
    finally:
        del sys.modules[spec.name]
        if before is not None:
            sys.modules[spec.name] = before
    found = out.drain()
    assert [(e.code, e.kind, e.order) for e in found] == [(EXAMPLE, RAISE, 3), (EXAMPLE, CLEAR, 10)]
    assert found[0].evidence == {"isolation_uf": 8.0, "limit_uf": 5.0}


def test_links_lead_somewhere() -> None:
    wrong = []
    for page in PAGES:
        for link in _docs.links(page):
            if re.match(r"[a-z]+:", link):
                continue
            name, _, anchor = link.partition("#")
            target = (page.parent / name).resolve() if name else page
            if not target.exists():
                wrong.append(f"{page.name}: {link}: no such file")
            elif anchor and anchor not in _docs.anchors(target):
                wrong.append(f"{page.name}: {link}: no such heading")
    assert wrong == []


def test_every_page_is_listed_in_the_readme() -> None:
    listed = {(ROOT / link.partition("#")[0]).resolve() for link in _docs.links(README)}
    assert [page.name for page in PAGES[1:] if page not in listed] == []


def test_every_command_is_mentioned() -> None:
    code = "\n".join(_docs.code_of(page) for page in PAGES)
    names = [name.replace("_", "-") for name in plugins.names("pipeline.commands")]
    assert [name for name in names if f"chargestream {name}" not in code] == []


def test_every_section_of_the_configuration_is_described() -> None:
    code = _docs.code_of(ROOT / "docs" / "configuration.md")
    assert [name for name in Config.model_fields if not re.search(rf"\[{name}[\].]", code)] == []


def test_every_detector_is_in_the_catalogue() -> None:
    code = _docs.code_of(ROOT / "docs" / "faults.md").split()
    assert [name for name in plugins.names("models.detectors") if name not in code] == []


def test_metrics_in_the_docs_exist() -> None:
    known = set(re.findall(r'"(\w+)"', (ROOT / "connectors" / "api" / "metrics.py").read_text()))
    named = {m for page in PAGES for m in re.findall(r"chargestream_(\w+)", _docs.code_of(page))}
    assert {name for name in named if name.removesuffix("_total") not in known} == set()
    assert len(named) > 10


def test_files_in_the_docs_exist() -> None:
    path = re.compile(
        r"(?<![\w./-])((?:models|pipeline|connectors|grafana|tests|docs)/[\w/]+\.(?:py|md|toml|svg))"
    )
    named = {name for page in PAGES for name in path.findall(_docs.code_of(page))}
    missing = {name for name in named if not (ROOT / name).exists()}
    assert missing - {f"models/detectors/{EXAMPLE}.py"} == set()
    assert len(named) > 20


def test_pictures_are_small_and_sound() -> None:
    assert (ROOT / "docs" / "page.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    assert (ROOT / "docs" / "page.png").stat().st_size < 150_000
    root = xml.etree.ElementTree.parse(ROOT / "docs" / "flow.svg").getroot()
    assert "prefers-color-scheme: dark" in "".join(root.itertext())
