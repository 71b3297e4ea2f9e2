"""The settings of reactions: which findings set off which commands, and what bounds them."""

from __future__ import annotations

import re
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from models.reactions import Rule, RuleBook, Step

from .config_sections import Section, Texts, clash

_NAME = re.compile(r"[a-z0-9_-]{1,40}")


class ReactionStep(Section):
    """One step of a rule."""

    action: Literal["limit", "stop", "inoperative", "reset_on_idle", "unlock", "trigger_status"] = Field(
        "trigger_status",
        description="limit, stop, inoperative, reset_on_idle, unlock or trigger_status; limit and "
        "inoperative are undone.",
    )
    after_s: float = Field(0.0, ge=0, le=86_400, description="So long after the finding was raised.")
    limit_a: float = Field(6.0, ge=0, le=1000, description="With limit: current that stays allowed.")


class ReactionRule(Section):
    """What a finding sets off."""

    codes: Texts = Field((), description="Codes of findings, with * and ?.")
    sites: Texts = Field((), description="Sites, with * and ?; empty: all.")
    severity: Literal["info", "warning", "critical"] = Field("critical", description="Least severity.")
    safety: bool = Field(False, description="Acts while a car charges, ahead of all other commands.")
    undo: bool = Field(True, description="Undo limit and inoperative when the finding clears.")
    steps: Annotated[tuple[ReactionStep, ...], Field(strict=False)] = Field(
        (), description="Tables [[reactions.rules.NAME.steps]] with action, after_s and limit_a."
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not self.codes:
            raise clash("codes", 'at least one code, as ["connector_over_temperature"]')
        if not self.steps:
            raise clash("steps", "at least one step")
        times = [step.after_s for step in self.steps]
        if times != sorted(times):
            raise clash("steps", f"steps in the order of after_s, not {times}")
        return self


class ReactionsSection(Section):
    """Commands that findings set off by themselves; a table [reactions.rules.NAME] for each rule."""

    enabled: bool = Field(False, description="Decide and record what the rules say.")
    dry_run: bool = Field(True, description="Record only; nothing is sent to stations.")
    station_per_h: int = Field(3, ge=1, le=1000, description="Most commands to one station in an hour.")
    site_per_h: int = Field(20, ge=1, le=100_000, description="Most commands to one site in an hour.")
    fleet_per_h: int = Field(
        50,
        ge=1,
        le=1_000_000,
        description="So many in an hour in the fleet stop reactions until reset.",
    )
    expires_s: float = Field(120.0, ge=5, le=86_400, description="A command not delivered by then is void.")
    rules: dict[str, ReactionRule] = Field(
        default_factory=dict, description="Tables by the name of each rule; none: nothing is ever sent."
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        for name in self.rules:
            if not _NAME.fullmatch(name):
                raise clash("rules", f"names of a-z, 0-9, _ and - only, not {name!r}")
        return self

    def rule_book(self) -> RuleBook | None:
        """Return the rules as the model takes them; None when there are no reactions."""
        if not self.enabled or not self.rules:
            return None
        return RuleBook(
            rules=tuple(_rule(name, rule) for name, rule in sorted(self.rules.items())),
            act=not self.dry_run,
            station_per_h=self.station_per_h,
            site_per_h=self.site_per_h,
            fleet_per_h=self.fleet_per_h,
            expires_ms=round(self.expires_s * 1000),
        )


def _rule(name: str, rule: ReactionRule) -> Rule:
    steps = tuple(Step(step.action, round(step.after_s * 1000), step.limit_a) for step in rule.steps)
    return Rule(
        name=name,
        codes=rule.codes,
        steps=steps,
        sites=rule.sites,
        severity=rule.severity,
        safety=rule.safety,
        undo=rule.undo,
    )
