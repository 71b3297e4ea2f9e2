"""Runs fault corpora through the flow and puts the comparison into tables."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec

from connectors.msglog import LogWriter
from connectors.simulator import harmless
from connectors.simulator.corpus import Corpus, healthy, plan
from models.errors import DecodeError, StorageError
from models.fault_scoring import (
    SEVERITIES,
    Cell,
    Comparison,
    Found,
    Rules,
    Truth,
    compare,
    counts,
    per_evse_month,
    raised,
)
from pipeline.config import Config
from pipeline.replay import replay

#: Corpora start here (2026-06-10T06:00:00Z): a seed is the same corpus forever.
START_MS: Final = 1_781_071_200_000
_HOURS_A_MONTH: Final = 730.5

_Line = TypeVar("_Line")


@dataclass(frozen=True, slots=True)
class Setting:
    """A corpus to make: `codes` empty means all; `lasts` scales how long faults last."""

    seed: int
    stations: int
    hours: float
    codes: tuple[str, ...] = ()
    severities: tuple[str, ...] = SEVERITIES
    lasts: float = 1.0


@dataclass(slots=True)
class Scene:
    """What became of one harmless scenario: findings that it should not have caused."""

    name: str
    found: list[Found]

    @property
    def critical(self) -> int:
        """Critical findings among them."""
        return sum(finding.severity == "critical" for finding in self.found)


@dataclass(slots=True)
class Score:
    """Everything that ``score faults`` prints."""

    rules: Rules
    faults: Comparison | None = None
    evse_hours: float = 0.0
    left_out: list[tuple[str, str]] = field(default_factory=list)
    scenes: list[Scene] = field(default_factory=list)
    healthy: list[Found] | None = None
    healthy_evse_hours: float = 0.0
    wall_s: dict[str, float] = field(default_factory=dict)

    def healthy_rate(self) -> float | None:
        """Return false alarms per EVSE-month of the healthy fleet."""
        if self.healthy is None or not self.healthy_evse_hours:
            return None
        return per_evse_month(len(self.healthy), 1, self.healthy_evse_hours)

    def record(self) -> dict[str, Any]:
        """Return plain data."""
        out: dict[str, Any] = {
            "early_s": self.rules.early_ms / 1000,
            "tolerance_s": self.rules.tolerance_ms / 1000,
        }
        if self.faults is not None:
            out |= self.faults.record()
            out["left_out"] = [list(item) for item in self.left_out]
            out["evse_months"] = round(self.evse_hours / _HOURS_A_MONTH, 3)
            if self.evse_hours:
                out["false_per_evse_month"] = round(
                    per_evse_month(len(self.faults.false), 1, self.evse_hours), 3
                )
        if self.scenes:
            out["harmless"] = {
                scene.name: {"findings": counts(scene.found), "critical": scene.critical}
                for scene in self.scenes
            }
        if self.healthy is not None:
            out["healthy"] = {
                "findings": counts(self.healthy),
                "evse_months": round(self.healthy_evse_hours / _HOURS_A_MONTH, 3),
                "per_evse_month": round(self.healthy_rate() or 0.0, 3),
            }
        return out | {"wall_s": self.wall_s}


# -- files ---------------------------------------------------------------------------------------


def read_lines(path: Path, kind: type[_Line]) -> list[_Line]:
    """Return the records of a JSON Lines file.

    Raises
    ------
    StorageError
        If the file cannot be read.
    DecodeError
        If a line is not such a record.
    """
    try:
        lines = path.read_bytes().splitlines()
    except OSError as error:
        raise StorageError(f"{path} cannot be read: {error.strerror}") from error
    decoder = msgspec.json.Decoder(kind)
    out = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            out.append(decoder.decode(line))
        except msgspec.DecodeError as error:
            raise DecodeError(
                "schema", f"{path}, line {number}: {error}; expected a JSON object as in docs/fault-score.md"
            ) from error
    return out


def given(truth: Path, findings: Path, rules: Rules, evse_hours: float | None) -> Score:
    """Return the score of truth and findings made elsewhere."""
    truths = read_lines(truth, Truth)
    found = raised(read_lines(findings, Found))
    return Score(rules, compare(truths, found, rules), evse_hours or 0.0)


# -- simulated fleets ----------------------------------------------------------------------------


@contextmanager
def _folder(out: Path | None) -> Iterator[Path]:
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        yield out
        return
    with tempfile.TemporaryDirectory(prefix="chargestream-score-") as made:
        yield Path(made)


def simulated(
    config: Config,
    setting: Setting,
    parts: tuple[str, ...],
    rules: Rules,
    out: Path | None,
    say: Callable[[str], None],
) -> Score:
    """Simulate, replay and compare; `out` keeps the files."""
    score = Score(rules)
    seed, stations, hours = setting.seed, setting.stations, setting.hours
    if "corpus" in parts:
        corpus = plan(
            seed,
            stations,
            hours,
            START_MS,
            codes=setting.codes,
            severities=setting.severities,
            lasts=setting.lasts,
        )
        with _folder(out and out / "corpus") as folder:
            found = _flow(config, corpus, folder, say, score.wall_s)
        quiet = corpus.harmless_sites
        truths = [msgspec.convert(truth.record(), Truth) for truth in corpus.truth]
        score.faults = compare(truths, [f for f in found if f.site not in quiet], rules)
        score.evse_hours = hours * corpus.evses(harmless=False)
        score.left_out = corpus.left_out
        score.scenes = scenes(corpus, [f for f in found if f.site in quiet], rules)
    if "healthy" in parts:
        fleet = healthy(seed + 1, stations, hours, START_MS)
        with _folder(out and out / "healthy") as folder:
            found = _flow(config, fleet, folder, say, score.wall_s)
        score.healthy = [f for f in found if f.tells]
        score.healthy_evse_hours = hours * fleet.evses(harmless=False)
    return score


def scenes(corpus: Corpus, found: list[Found], rules: Rules) -> list[Scene]:
    """Return what was found at the harmless scenarios, and elsewhere on their sites at any time."""
    out, left = [], [f for f in found if f.tells]
    for happened in corpus.happened:
        here = msgspec.convert(happened.record(), Truth)
        expects = harmless.find(happened.code).expects
        there = compare([here], left, rules)
        near = there.beside
        out.append(Scene(happened.code, [f for f in near if f.code not in expects]))
        left = [f for f in left if f not in near]
    return [*out, Scene("elsewhere", left)] if out else []


def _flow(
    config: Config, corpus: Corpus, folder: Path, say: Callable[[str], None], wall_s: dict[str, float]
) -> list[Found]:
    """Run a corpus through the whole flow and return what was found."""
    name = "corpus" if corpus.faults or corpus.left_out else "healthy"
    hours = (corpus.end_ms - corpus.start_ms) / 3_600_000
    say(f"{name}: {corpus.evses()} EVSEs for {hours:g} h, {len(corpus.faults)} faults")
    began = time.perf_counter()
    log = folder / "messages.jsonl"
    with LogWriter(log) as writer:
        for messages in corpus.play():
            for message in messages:
                writer.write_object(message.t_ms * 1_000_000, message.topic, message.payload)
    truth = "".join(json.dumps(record.record()) + "\n" for record in corpus.truth)
    (folder / "truth.jsonl").write_text(truth, encoding="utf-8")
    simulated_at = time.perf_counter()
    summary = replay(config, log, folder, write_points=False)
    wall_s[f"{name}_simulation"] = round(simulated_at - began, 1)
    wall_s[f"{name}_flow"] = round(summary["wall_s"], 1)
    say(f"{name}: {summary['rows']['in']} readings, {wall_s}")
    return raised(read_lines(folder / "findings.jsonl", Found))


# -- the table -----------------------------------------------------------------------------------


def table(score: Score) -> list[str]:
    """Return the score as lines of text."""
    out: list[str] = []
    if score.faults is not None:
        out += _faults(score.faults)
        if score.left_out:
            out.append("no room for  " + ", ".join(f"{code}:{severity}" for code, severity in score.left_out))
        if score.evse_hours:
            rate = per_evse_month(len(score.faults.false), 1, score.evse_hours)
            out.append(f"false alarms of the fleet with faults: {rate:.2f} per EVSE-month")
        out.append("")
    for scene in score.scenes:
        out.append(f"harmless {scene.name:20} critical {scene.critical}  others {_named(scene.found)}")
    if score.healthy is not None:
        months = score.healthy_evse_hours / _HOURS_A_MONTH
        out.append(
            f"healthy  {len(score.healthy)} findings in {months:.2f} EVSE-months: "
            f"{score.healthy_rate():.2f} per EVSE-month  {_named(score.healthy)}"
        )
    return out


def _named(found: list[Found]) -> str:
    return ", ".join(f"{code} {n}" for code, n in counts(found).items()) or "none"


def _faults(faults: Comparison) -> list[str]:
    severities = faults.severities()
    width = max((len(code) for code in faults.cells), default=4)
    false, beside = counts(faults.false), counts(faults.beside)
    head = "  ".join(f"{severity:>16}" for severity in severities)
    out = [f"{'code':{width}}  {head}  false  beside", ""]
    for code in sorted({*faults.cells, *false, *beside}):
        cells = "  ".join(_cell(faults.cells.get(code, {}).get(severity)) for severity in severities)
        out.append(f"{code:{width}}  {cells}  {false.get(code, 0):5}  {beside.get(code, 0):6}")
    means = "  ".join(f"{faults.macro_recall(severity) or 0.0:16.3f}" for severity in severities)
    out += ["", f"{'macro recall':{width}}  {means}  {len(faults.false):5}  {len(faults.beside):6}", ""]
    return out


def _cell(cell: Cell | None) -> str:
    if cell is None:
        return " " * 16
    record = cell.record()
    delay = "" if record["delay_s"] is None else f"{record['delay_s']:.0f} s"
    return f"{cell.found}/{cell.truths} {delay:>8}".rjust(16)
