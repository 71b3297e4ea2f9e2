"""Requests about campaigns before they leave: bodies of ``evt/v1/_op/campaign``, checked as the book will.

``create`` carries a `Plan` (docs/campaigns.md), ``approve``, ``start``, ``pause``, ``resume``, ``abort`` and
``rollback`` an ``id``; all say ``by`` whom. ``tag`` gives tags to stations.
"""

from __future__ import annotations

from typing import Any

from ._campaign_asking import no_address
from ._campaign_inputs import read_request
from ._campaign_plan import Plan, read_plan

__all__ = ["Plan", "check_request", "no_address", "read_plan"]


def check_request(body: dict[str, Any]) -> None:
    """Check a request.

    Raises
    ------
    DecodeError
        With the first thing that is wrong.
    """
    if body.get("action") == "create":
        read_plan(body)
    else:
        read_request(body)
