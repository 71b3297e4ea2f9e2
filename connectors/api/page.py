"""What the live page shows, read when asked and rendered on the server."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

from connectors.ledger_reader import LedgerReader
from models import evidence_text
from models.errors import ChargestreamError
from models.faults import FAULTS

from . import words
from .evidence import HEIGHT as EVIDENCE_HEIGHT
from .evidence import WIDTH as EVIDENCE_WIDTH
from .evidence import EvidenceReader, Source, drawn
from .health import BEHIND_MS, Health, HealthReader, Process, how_ended
from .power import FRESH_MS, HEIGHT, WIDTH, PowerTrace, chart

SHOWN_EVSES: Final = 200
SHOWN_FINDINGS: Final = 50
SHOWN_DEAD: Final = 10
#: One rendering serves everybody who asks for the same within this time.
_SAME_S: Final = 0.5
_RENDERINGS: Final = 16
#: A sum of power this young is the power of now.
_NOW_MS: Final = 10_000
_SEVERITIES: Final = ("critical", "warning", "info")


class Choice(NamedTuple):
    """What the reader of the page chose to see."""

    site: str = ""
    search: str = ""


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


class Page:
    """Everything the page shows. Thread-safe.

    Parameters
    ----------
    ledger_url : str
    data_dir : Path
        Where the processes keep their status files.
    instance : str
        Name of this installation, shown in the title.
    now_ms : callable
        The machine's time, epoch ms.
    journal : callable, optional
        Reads the channels around a finding.
    detectors : mapping, optional
        Detector name -> its settings, where they are not the defaults.
    """

    def __init__(
        self,
        ledger_url: str,
        data_dir: Path,
        instance: str,
        now_ms: Callable[[], int] = _now_ms,
        *,
        journal: Source | None = None,
        detectors: Mapping[str, Any] | None = None,
    ) -> None:
        self.ledger = LedgerReader(ledger_url)
        self.evidence = EvidenceReader(self.ledger, journal, detectors)
        self.trace = PowerTrace(self.ledger)
        self._health = HealthReader(self.ledger, data_dir)
        self._instance, self._now_ms, self.data_dir = instance, now_ms, data_dir
        self._lock = threading.Lock()
        self._rendered: OrderedDict[tuple[str, Choice], tuple[float, str]] = OrderedDict()
        self._templates = Environment(
            loader=PackageLoader("connectors.api"),
            autoescape=select_autoescape(),
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._templates.filters |= {
            "ago": words.ago,
            "behind": words.behind,
            "utc": evidence_text.utc,
            "iso": lambda time_ms: evidence_text.utc(time_ms).replace(" UTC", "Z").replace(" ", "T"),
            "day": lambda time_ms: evidence_text.utc(time_ms)[:10],
            "span": lambda seconds: words.NOTHING if seconds is None else evidence_text.duration(seconds),
            "power": words.power_text,
            "register": words.register_text,
            "figures": evidence_text.figures,
            "kwh": words.kwh_text,
            "plain_time": words.plain_time,
            "badge": words.badge,
            "command_badge": words.command_badge,
            "cause_link": words.cause_link,
            "says": says,
            "ended": how_ended,
            "plug": hottest_plug,
        }
        self._templates.globals |= {
            "images": False, "tokens": lambda: False, "command_words": words.command_words,
        }  # fmt: skip

    def health(self) -> Health:
        """Return the present health."""
        return self._health.read(self._now_ms())

    def render(self, name: str, choice: Choice) -> str:
        """Return a template filled for `choice`: the page, or its live part."""
        with self._lock:
            key = (name, choice)
            held = self._rendered.get(key)
            if held is not None and time.monotonic() - held[0] < _SAME_S:
                return held[1]
            text = self._templates.get_template(name).render(self._context(choice))
            self._rendered[key] = (time.monotonic(), text)
            self._rendered.move_to_end(key)
            while len(self._rendered) > _RENDERINGS:
                self._rendered.popitem(last=False)
            return text

    def filled(self, template: str, **values: Any) -> str:
        """Return a template filled with `values`, the name of the installation and the time."""
        known = {"instance": self._instance, "now_ms": self._now_ms()}
        return self._templates.get_template(template).render(known | values)

    def finding(self, finding_id: str, *, live: bool = False) -> str | None:
        """Return the page of one finding with its history; None when the ledger has no such finding.

        Its `live` part comes without the drawn evidence, which the page keeps as it is.
        """
        found = self.ledger.finding(finding_id)
        if found is None:
            return None
        seen = None if live else self.evidence.of(found, self._now_ms())
        history = [{"at": c["changed_at"], "change": c} for c in found["changes"]]
        history += [{"at": a["at"], "action": a} for a in found["actions"]]
        return self.filled(
            "finding_live.html" if live else "finding.html",
            faults=FAULTS,
            f=found,
            history=sorted(history, key=lambda item: item["at"]),
            reactions=[row | {"link": words.reaction_link(row)} for row in found["reactions"][::-1]],
            panels=None if seen is None else drawn(seen),
            source="" if seen is None else seen.source,
            width=EVIDENCE_WIDTH,
            height=EVIDENCE_HEIGHT,
            choice=Choice(),
        )

    def ask_for_tokens(self, tokens: Callable[[], bool]) -> None:
        """Let forms ask for a token instead of a name while `tokens` says that there are any."""

        def asked() -> bool:
            try:
                return tokens()
            except ChargestreamError:
                return False  # without a ledger nothing can be done, and the answer to a form says so

        self._templates.globals["tokens"] = asked

    def link_images(self) -> None:
        """Put the link to the page of images on the live page."""
        self._templates.globals["images"] = True

    def fill(self, template: str, **what: Any) -> str:
        """Return another page's template, filled."""
        return self._templates.get_template(template).render(instance=self._instance, **what)

    def _context(self, choice: Choice) -> dict[str, Any]:
        now_ms = self._now_ms()
        health = self._health.read(now_ms)
        severities = {name: sum(n for _, s, n in health.findings if s == name) for name in _SEVERITIES}
        return {
            "instance": self._instance,
            "now_ms": now_ms,
            "fresh_ms": FRESH_MS,
            "behind_limit_ms": BEHIND_MS,
            "faults": FAULTS,
            "choice": choice,
            "health": health,
            "severities": severities,
            "open_findings": sum(severities.values()),
            "width": WIDTH,
            "height": HEIGHT,
            **self._lists(choice, now_ms),
        }

    def _lists(self, choice: Choice, now_ms: int) -> dict[str, Any]:
        """Return what comes from the ledger; nothing while it cannot be read, which the health says."""
        chosen = {"site": choice.site, "search": choice.search}
        try:
            points = self.trace.points(now_ms)
            evses, n_evses = self.ledger.urgent_evses(SHOWN_EVSES, **chosen)
            findings, n_findings = self.ledger.raised_findings(SHOWN_FINDINGS, **chosen)
            sites, dead = self.ledger.sites(), self.ledger.dead(SHOWN_DEAD)
            readable = True
        except ChargestreamError:
            points, evses, findings, sites, dead, n_evses, n_findings = [], [], [], [], [], 0, 0
            readable = False
        return {
            "readable": readable,
            "chart": chart(points, now_ms),
            "power_w": points[-1][1] if points and now_ms - points[-1][0] <= _NOW_MS else None,
            "evses": evses,
            "n_evses": n_evses,
            "findings": findings,
            "n_findings": n_findings,
            "sites": sites,
            "dead": dead,
        }


def hottest_plug(values: dict[str, float | None]) -> float | None:
    """Return the temperature of the hotter plug sensor in °C, None when neither reports."""
    sensors = (values.get("temperature_cable_c"), values.get("temperature_outlet_c"))
    return max((c for c in sensors if c is not None), default=None)


def says(process: Process) -> str:
    """Return what a process last said of itself, as a person reads it."""
    status = process.status
    if process.name == "ingest" and status:
        link = "connected" if status.get("connected") else "not connected"
        return (
            f"{link}, {status.get('messages', 0):,} messages in {status.get('commits', 0):,} commits since "
            f"its start, {status.get('waiting_messages', 0):,} waiting"
        )
    if process.name.startswith("worker-") and status:
        shards = ", ".join(str(shard) for shard in status.get("shards", []))
        unsaved, rss_mb = status.get("lag_messages", 0), status.get("rss_mb", 0)
        return f"shards {shards}; {unsaved:,} messages and ticks not saved yet; {rss_mb:,.0f} MB"
    if process.name == "egress":
        return "; ".join(_consumer(name, c) for name, c in sorted(status.get("consumers", {}).items()))
    return ""


def _consumer(name: str, consumer: dict[str, Any]) -> str:
    refused = int(consumer.get("dead_letters", 0))
    return f"{name} {consumer.get('state', 'idle')}, {consumer.get('lag_records', 0):,} waiting" + (
        f", {refused:,} refused" if refused else ""
    )
