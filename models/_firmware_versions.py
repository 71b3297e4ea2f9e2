"""The order of firmware versions, and which versions an image may be installed over."""

from __future__ import annotations

import re
from typing import Final

from .errors import ChargestreamError

#: Words that make a version come before the release that they lead to.
_BEFORE: Final = {"dev": 0, "alpha": 1, "a": 1, "beta": 2, "b": 2, "pre": 3, "preview": 3, "rc": 3}
_PRE, _END, _WORD, _NUMBER = -1, 0, 1, 2
_PART: Final = re.compile(r"\d+|[^\W\d_]+")
_CONDITION: Final = re.compile(r"\s*(>=|<=|==|!=|>|<|)\s*([^\s<>=!,]+)\s*\Z")
_MAX_LENGTH: Final = 50  # OCPP: firmwareVersion of BootNotification

VersionKey = tuple[tuple[int, int, str], ...]


class FirmwareError(ChargestreamError):
    """An image, its signature or certificate, or a version is not what it must be.

    `reason` is a short stable word: ``version``, ``compatible``, ``rollback``, ``revoked``, ``hash``,
    ``signature``, ``certificate``, ``expired``, ``format``, ``unknown``, ``repository``.
    """

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"firmware: {reason}: {detail}")
        self.reason = reason
        self.detail = detail


def version_key(version: str) -> VersionKey:
    """Return what orders versions: compare keys with ``<``.

    A leading ``v`` and everything after ``+`` (build data) do not count. The rest is cut into numbers and
    words, whatever separates them; numbers compare as numbers, words as text without case, a number is newer
    than a word, and a word than nothing, except ``dev < alpha = a < beta = b < pre = rc``, which come before
    the release itself. Zeros at the end of a run of numbers do not count: ``1.2 = 1.2.0``.

    Raises
    ------
    FirmwareError
        If the text holds no number or letter, or is longer than OCPP's 50 characters.
    """
    text = version.strip()
    if len(text) > _MAX_LENGTH or not text.isprintable():
        raise FirmwareError(
            "version", f"{version[:60]!r}: expected at most {_MAX_LENGTH} printable characters"
        )
    text = re.sub(r"\A[vV](?=\d)", "", text.partition("+")[0])
    key: list[tuple[int, int, str]] = []
    for part in _PART.findall(text):
        if part.isdigit():
            key.append((_NUMBER, int(part), ""))
            continue
        _drop_zeros(key)
        word = part.casefold()
        before = _BEFORE.get(word) if key else None
        key.append((_WORD, 0, word) if before is None else (_PRE, before, ""))
    if not key:
        raise FirmwareError("version", f"{version!r}: expected a number or a word such as 1.4.2")
    _drop_zeros(key)
    return (*key, (_END, 0, ""))


def _drop_zeros(key: list[tuple[int, int, str]]) -> None:
    while len(key) > 1 and key[-1] == (_NUMBER, 0, ""):
        key.pop()


def same_version(one: str, other: str) -> bool:
    """Return whether two texts name one version: what a station reports, and what an image says.

    Build data after ``+`` must be the same where both have it.
    """
    builds = {text.partition("+")[2].strip() for text in (one, other)} - {""}
    return one.strip() == other.strip() or (len(builds) < 2 and version_key(one) == version_key(other))


def check_conditions(conditions: tuple[str, ...]) -> None:
    """Check `from_versions` of an image.

    Raises
    ------
    FirmwareError
        If one cannot be read.
    """
    for text in conditions:
        for part in text.split(","):
            found = _CONDITION.match(part)
            if found is None:
                raise FirmwareError(
                    "compatible", f"from-versions {text!r}: expected versions or ranges such as >=1.2,<2.0"
                )
            version_key(found[2])


def meets(version: str, conditions: tuple[str, ...]) -> bool:
    """Return whether `version` meets at least one of `conditions` (none: every version does).

    A condition is a version or a range such as ``>=1.2,<2.0``, whose parts must all hold.
    """
    if not conditions:
        return True
    key = version_key(version)
    return any(all(_holds(key, part) for part in text.split(",")) for text in conditions)


def _holds(key: VersionKey, part: str) -> bool:
    found = _CONDITION.match(part)
    if found is None:
        return False
    bound = version_key(found[2])
    return {
        ">=": key >= bound,
        "<=": key <= bound,
        ">": key > bound,
        "<": key < bound,
        "!=": key != bound,
    }.get(found[1], key == bound)
