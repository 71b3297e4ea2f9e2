"""A tariff chosen when the session starts, by how full or how loaded the site is then; fixed from there on.

::

    {"kind": "adaptive", "id": "BUSY", "by": "occupancy", "unknown": 0,
     "steps": [{"below": 0.5, "tariff": {...}}, {"below": 0.8, "tariff": {...}}, {"tariff": {...}}]}

`by` is ``occupancy`` (share of the site's EVSEs in use, 0 to 1) or ``site_kw`` (power of the site). The first
step whose `below` is above the value applies; the last has none. `unknown` is the step for a value that
nobody knows; without it such a session cannot be priced.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Any, Literal

from pydantic import Field, PrivateAttr, ValidationError, model_validator

from ._dynamic import Context, Resolved, nested, resolved
from ._ocpi_types import Model, Number, TariffError
from .ocpi import complaints


class Step(Model):
    """A tariff for values below a bound; None = for all that is left."""

    below: Number | None = None
    tariff: dict[str, Any]


class AdaptiveTariff(Model):
    """A choice of tariffs, made once a session."""

    kind: Literal["adaptive"]
    id: Annotated[str, Field(max_length=36)]
    by: Literal["occupancy", "site_kw"]
    steps: Annotated[tuple[Step, ...], Field(min_length=2)]
    unknown: int | None = None
    _inner: tuple[Any, ...] = PrivateAttr(default=())

    @model_validator(mode="after")
    def _in_order(self) -> AdaptiveTariff:
        bounds = [step.below for step in self.steps]
        given = [bound for bound in bounds[:-1] if bound is not None]
        if bounds[-1] is not None or len(given) != len(bounds) - 1 or given != sorted(set(given)):
            raise ValueError("steps: expected rising `below` in all but the last, which has none")
        if self.unknown is not None and not 0 <= self.unknown < len(self.steps):
            raise ValueError(f"unknown: there is no step {self.unknown}")
        self._inner = tuple(nested(s.tariff, f"steps.{i}.tariff") for i, s in enumerate(self.steps))
        currencies = {tariff.currency for tariff in self._inner}
        if len(currencies) > 1:
            raise ValueError(f"steps: currencies {', '.join(sorted(currencies))}: expected one")
        return self

    @property
    def currency(self) -> str:
        """The currency, of the first step."""
        currency: str = self._inner[0].currency
        return currency

    def resolve(self, context: Context) -> Resolved:
        """Return the tariff of the step that the start of the session chose.

        Raises
        ------
        TariffError
            If the value is not known and no step is named for that.
        """
        value = context.occupancy if self.by == "occupancy" else context.site_kw
        if value is None:
            if self.unknown is None:
                raise TariffError(f"tariff {self.id!r}: {self.by} at the start is not known")
            place = self.unknown
        else:
            exact = Decimal(repr(value))
            place = next(i for i, step in enumerate(self.steps) if step.below is None or exact < step.below)
        inner = resolved(self._inner[place], context)
        return Resolved(inner.tariff, inner.windows, inner.facts | {self.by: value, "step": place})


def matches(data: dict[str, Any]) -> bool:
    """Whether JSON data says that it is such a tariff."""
    return data.get("kind") == "adaptive"


def read(data: dict[str, Any]) -> AdaptiveTariff:
    """Return the tariff that JSON data describes.

    Raises
    ------
    TariffError
        If it is none: every departure is listed with its place.
    """
    try:
        return AdaptiveTariff.model_validate(data)
    except ValidationError as error:
        raise TariffError(f"adaptive tariff {data.get('id', '?')!r}: {complaints(error)}") from None
