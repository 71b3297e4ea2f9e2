"""What the pages of campaigns show."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from connectors.campaign_reader import CampaignReader

from .page import Page

_FAILED: Final = ("failed", "timed_out", "rejected", "unreachable")
#: States of a station whose update is under way.
FLYING: Final = ("requested", "accepted", "downloading", "downloaded", "installing", "installed")
#: Colour of a part of the bar -> its words and the states in it.
PARTS: Final[dict[str, tuple[str, tuple[str, ...]]]] = {
    "done": ("run the new version", ("succeeded",)),
    "flying": ("under way", FLYING),
    "bad": ("failed", _FAILED),
    "due": ("due", ("due",)),
    "later": ("wait for their wave", ("waiting",)),
    "out": ("left out", ("skipped", "cancelled")),
}
#: Steps of the funnel: name -> the states of those that came so far.
FUNNEL: Final[tuple[tuple[str, tuple[str, ...]], ...]] = (
    ("in open waves", ("due", *FLYING, "succeeded", *_FAILED)),
    ("asked", (*FLYING, "succeeded", "failed", "timed_out", "rejected")),
    ("accepted", (*FLYING[1:], "succeeded")),
    ("downloaded", (*FLYING[3:], "succeeded")),
    ("installing", (*FLYING[4:], "succeeded")),
    ("run the new version", ("succeeded",)),
)
#: What may be asked in a state.
POSSIBLE: Final[dict[str, tuple[str, ...]]] = {
    "waiting_for_approval": ("approve", "abort"),
    "approved": ("start", "abort"),
    "running": ("pause", "abort", "rollback"),
    "paused": ("resume", "resume:waive", "abort", "rollback"),
    "aborting": ("rollback",),
    "rolling_back": ("abort",),
    "finished": ("rollback",),
    "aborted": ("rollback",),
}
WORDS: Final = {
    "approve": "Approve", "start": "Start", "pause": "Pause", "resume": "Resume", "abort": "Abort",
    "resume:waive": "Resume without the gate", "rollback": "Roll back",
}  # fmt: skip
#: What cannot be taken back: its reader is asked first.
RISKY: Final = ("abort", "rollback", "resume:waive")
#: Unit of the rates that the gate compares.
UNITS: Final = {
    "findings": "1/h", "failed_starts": "of starts", "offline_s": "s/h", "energy_wh": "Wh/h charging",
}  # fmt: skip
#: Width of a whole bar, in its own units.
BAR: Final = 1000
SHOWN_STATIONS: Final = 100


class Part(NamedTuple):
    """A piece of a bar: `x` and `width` of `BAR`."""

    kind: str
    words: str
    stations: int
    x: float
    width: float


def bar(states: dict[str, int]) -> list[Part]:
    """Return the pieces of the bar of a wave, or of a whole campaign."""
    total, x, found = sum(states.values()), 0.0, []
    for kind, (words, members) in PARTS.items():
        count = sum(states.get(state, 0) for state in members)
        if count:
            width = BAR * count / total
            found.append(Part(kind, words, count, round(x, 2), round(width, 2)))
            x += width
    return found


def funnel(states: dict[str, int]) -> list[tuple[str, int, float]]:
    """Return (step, stations that came so far, width of `BAR`)."""
    counts = [(name, sum(states.get(state, 0) for state in members)) for name, members in FUNNEL]
    widest = max((count for _, count in counts), default=0) or 1
    return [(name, count, round(BAR * count / widest, 2)) for name, count in counts]


class CampaignPage:
    """Renders the list of campaigns and the page of one."""

    def __init__(self, reader: CampaignReader, page: Page) -> None:
        self._reader, self._page = reader, page

    def listed(self, template: str, now_ms: int) -> str:
        """Return the list, or its live part."""
        rows = [row | {"bar": bar(row["funnel"]["all"])} for row in self._reader.campaigns()]
        refused = self._reader.refused_requests(5)
        return self._page.fill(template, campaigns=rows, refused=refused, now_ms=now_ms, parts=PARTS)

    def shown(self, template: str, campaign: dict[str, Any], now_ms: int) -> str:
        """Return the page of a campaign, or its live part."""
        waves = [
            wave | {"bar": bar(wave["states"]), "total": sum(wave["states"].values())}
            for wave in campaign["funnel"]["waves"]
        ]
        waves.sort(key=lambda wave: (wave["wave"] < 0, wave["wave"]))
        gate = next((c for c in reversed(campaign["changes"]) if c["verdict"]), None)
        failed = [
            row
            for state in _FAILED
            for row in self._reader.campaign_stations(campaign["campaign"], SHOWN_STATIONS, state=state)
        ]
        return self._page.fill(
            template,
            c=campaign,
            waves=waves,
            funnel=funnel(campaign["funnel"]["all"]),
            total=sum(campaign["funnel"]["all"].values()),
            failures=sum(campaign["funnel"]["all"].get(state, 0) for state in _FAILED),
            flying=sum(campaign["funnel"]["all"].get(state, 0) for state in FLYING),
            parts=PARTS,
            units=UNITS,
            risky=RISKY,
            bar_width=BAR,
            gate=gate,
            findings=self._reader.findings(campaign["campaign"]),
            ahead=self._reader.outlook(campaign["campaign"], now_ms),
            failed=failed[:SHOWN_STATIONS],
            latest=self._reader.campaign_stations(campaign["campaign"], 20),
            possible=[(name, WORDS[name]) for name in POSSIBLE.get(campaign["state"], ())],
            now_ms=now_ms,
        )

    def station(self, campaign: dict[str, Any], row: dict[str, Any], now_ms: int) -> str:
        """Return the page of one station of a campaign: why it does not run the version yet."""
        return self._page.fill("campaign_station.html", c=campaign, row=row, now_ms=now_ms)
