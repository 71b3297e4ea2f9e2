"""What InfluxDB holds: the list that dashboards, queries and uploaders go by.

The rows themselves stand in `models.schema`, because the dataflow encodes points and may not import
connectors. To add a field, add its row there.
"""

from __future__ import annotations

from models.schema import (
    MEASUREMENTS,
    NO_TAG,
    ROLLUP_MEASUREMENT,
    STATISTICS,
    FieldSpec,
    FieldType,
    Measurement,
)

__all__ = [
    "MEASUREMENTS",
    "NO_TAG",
    "ROLLUP_MEASUREMENT",
    "STATISTICS",
    "FieldSpec",
    "FieldType",
    "Measurement",
]
