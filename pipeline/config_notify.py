"""The settings of notifications: who is told what about findings, where and when."""

from __future__ import annotations

import re
from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator
from pydantic_core import PydanticCustomError

from models.notices import STATES, RouteRule, quiet_minutes, zone_of
from models.secret import Secret

from .config_sections import SecretValue, Section, clash

_NAME = re.compile(r"[a-z0-9_-]{1,40}")
Texts = Annotated[tuple[str, ...], Field(strict=False)]


class NotifyRoute(Section):
    """One way to people: what is told there, and when."""

    url: SecretValue = Field(
        Secret(), description="Address as apprise has it: mailtos://…, slack://…, jsons://…; or mqtt_topic."
    )
    mqtt_topic: str = Field(
        "", pattern=r"^[^+#\x00]{0,200}$", description="Topic of our broker that takes the messages as JSON."
    )
    format: Literal["text", "json"] = Field(
        "text", description="Body of what goes to url: for people, or JSON for programs."
    )
    sites: Texts = Field((), description="Sites, with * and ?; empty: all.")
    codes: Texts = Field((), description="Codes of findings, with * and ?; empty: all.")
    severity: Literal["info", "warning", "critical"] = Field("warning", description="Least severity.")
    states: Annotated[tuple[Literal["raised", "updated", "cleared"], ...], Field(strict=False)] = Field(
        STATES, description="States that are told."
    )
    quiet: str = Field(
        "", pattern=r"^$|^\d\d:\d\d-\d\d:\d\d$", description="Local hours without messages, 22:00-06:00."
    )
    digest_s: int = Field(
        0, ge=0, le=86_400, description="Collect for so long, counted from local midnight; 0: send at once."
    )
    urgent: Literal["", "warning", "critical"] = Field(
        "", description="From this severity on neither quiet nor digest_s hold a message; empty: they do."
    )
    escalate_s: int = Field(
        0, ge=0, le=604_800, description="Not acknowledged for so long: told to escalate_to; 0: never."
    )
    escalate_to: str = Field("", description="Route that is told of what nobody acknowledged.")

    @field_validator("quiet")
    @classmethod
    def _quiet(cls, value: str) -> str:
        try:
            quiet_minutes(value)
        except ValueError as error:
            raise PydanticCustomError("route", "HH:MM-HH:MM, {why}", {"why": str(error)}) from None
        return value

    @model_validator(mode="after")
    def _check(self) -> Self:
        if bool(self.url) == bool(self.mqtt_topic):
            raise clash("mqtt_topic", "either url or mqtt_topic")
        if bool(self.escalate_s) != bool(self.escalate_to):
            missing = "escalate_to" if self.escalate_s else "escalate_s"
            raise clash(missing, "a value, because escalate_s and escalate_to belong together")
        return self


class NotifySection(Section):
    """Messages to people about findings; a table [notify.routes.NAME] for each way to them."""

    enabled: bool = Field(True, description="Send messages, as far as there are routes.")
    time_zone: str = Field(
        "UTC", description="Zone of quiet hours, digests and times in texts: Europe/Berlin."
    )
    page_url: str = Field(
        "", pattern=r"^$|^https?://[^\s]+$", description="Address of the live page, for links; empty: none."
    )
    retry_min_s: float = Field(1.0, ge=0.05, le=60, description="Wait before a retry; doubles each time.")
    retry_max_s: float = Field(300.0, ge=0.05, le=3600, description="Longest wait between retries.")
    routes: dict[str, NotifyRoute] = Field(
        default_factory=dict, description="Tables by the name of each route; none: nobody is told."
    )

    @property
    def running(self) -> bool:
        """Whether anything is sent."""
        return self.enabled and bool(self.routes)

    @field_validator("time_zone")
    @classmethod
    def _zone(cls, value: str) -> str:
        try:
            zone_of(value)
        except ValueError:
            raise PydanticCustomError("route", "an IANA time zone as Europe/Berlin, or UTC") from None
        return value

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.retry_max_s < self.retry_min_s:
            raise clash("retry_max_s", f"at least retry_min_s = {self.retry_min_s:g}")
        for name, route in self.routes.items():
            if not _NAME.fullmatch(name):
                raise clash("routes", f"names of a-z, 0-9, _ and - only, not {name!r}")
            if route.escalate_to and (route.escalate_to == name or route.escalate_to not in self.routes):
                raise clash("routes", f"escalate_to of {name} to name another of them: {route.escalate_to!r}")
        return self

    def rules(self, since_ms: dict[str, int] | None = None) -> list[RouteRule]:
        """Return the routes as the planner takes them; `since_ms`: when each was set up."""
        return [
            RouteRule(
                name=name,
                sites=route.sites,
                codes=route.codes,
                severity=route.severity,
                states=route.states,
                quiet=quiet_minutes(route.quiet),
                zone=zone_of(self.time_zone),
                digest_s=route.digest_s,
                urgent=route.urgent,
                escalate_s=route.escalate_s,
                escalate_to=route.escalate_to,
                since_ms=(since_ms or {}).get(name, 0),
            )
            for name, route in self.routes.items()
        ]
