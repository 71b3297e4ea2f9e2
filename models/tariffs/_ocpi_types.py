"""Types that every OCPI object shares: exact numbers, UTC times, frozen models."""

from __future__ import annotations

import datetime as dt
import json
import re
from decimal import Decimal
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer

from models.errors import TariffError as TariffError

_TIME = re.compile(r"(\d{4})-(\d\d)-(\d\d)[T ](\d\d):(\d\d)(?::(\d\d)(?:[.,](\d{1,9}))?)?(Z|[+-]\d\d:?\d\d)?")


def exact(value: Any) -> Decimal:
    """Return a JSON number as the Decimal that its text says; a float by its shortest text.

    Raises
    ------
    ValueError
        If it is no finite number.
    """
    if isinstance(value, bool) or not isinstance(value, int | float | str | Decimal):
        raise ValueError(f"{value!r} is not a number")
    try:
        number = Decimal(repr(value) if isinstance(value, float) else value)
    except ArithmeticError as error:
        raise ValueError(f"{value!r} is not a number") from error
    if not number.is_finite():
        raise ValueError(f"{value!r} is not a finite number")
    return number


def json_number(value: Decimal) -> int | float:
    """Return a Decimal as the JSON number nearest to it: exact up to 15 digits, which OCPI never needs."""
    return int(value) if value == value.to_integral_value() else float(value)


def read_time(value: Any) -> dt.datetime:
    """Return an OCPI DateTime (UTC where no offset is given) as an aware datetime in UTC.

    Raises
    ------
    ValueError
        If it is not one.
    """
    if isinstance(value, dt.datetime):
        return value.replace(tzinfo=dt.UTC) if value.tzinfo is None else value.astimezone(dt.UTC)
    found = _TIME.fullmatch(value) if isinstance(value, str) else None
    if not found:
        raise ValueError(f"{value!r} is not a date and time such as 2024-01-10T09:00:00Z")
    zone = found[8] if found[8] and found[8] != "Z" else "+00:00"
    day = "-".join(found.group(1, 2, 3))
    fraction = (found[7] or "0")[:6].ljust(6, "0")
    text = f"{day}T{found[4]}:{found[5]}:{found[6] or '00'}.{fraction}{zone}"
    return dt.datetime.fromisoformat(text).astimezone(dt.UTC)


def write_time(value: dt.datetime) -> str:
    """Return the text OCPI asks for: UTC, seconds, a fraction only where there is one, Z."""
    utc = value.astimezone(dt.UTC)
    text = utc.strftime("%Y-%m-%dT%H:%M:%S")
    return text + (f".{utc.microsecond:06d}".rstrip("0") if utc.microsecond else "") + "Z"


Number = Annotated[
    Decimal,
    BeforeValidator(exact),
    PlainSerializer(json_number, return_type=float, when_used="json"),
    Field(json_schema_extra={"type": "number"}),
]
DateTime = Annotated[
    dt.datetime,
    BeforeValidator(read_time),
    PlainSerializer(write_time, return_type=str, when_used="json"),
]


class Model(BaseModel):
    """An immutable OCPI object; fields that OCPI does not know are carried, never dropped."""

    model_config = ConfigDict(frozen=True, extra="allow")

    def to_json(self) -> dict[str, Any]:
        """Return the object as JSON data, absent fields left out."""
        data: dict[str, Any] = self.model_dump(mode="json", exclude_none=True)
        return data


def loads(text: str | bytes) -> Any:
    """Parse JSON with every number exact: fractions become Decimal, never a binary float."""
    return json.loads(text, parse_float=Decimal)
