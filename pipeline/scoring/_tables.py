"""CSV files of benchmarks, in and out."""

from __future__ import annotations

import csv
import gzip
import math
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from models.errors import StorageError


def csv_files(folder: Path) -> list[Path]:
    """Return the CSV files below ``folder/data``, or below the folder where it has none, sorted.

    Raises
    ------
    StorageError
        If there is none.
    """
    root = folder / "data" if (folder / "data").is_dir() else folder
    found = sorted(p for p in root.rglob("*") if p.name.endswith((".csv", ".csv.gz")))
    if not found:
        raise StorageError(f"{folder}: no CSV file below it; expected data/<group>/<series>.csv")
    return found


def place(path: Path, folder: Path, out: Path) -> Path:
    """Return where the output of `path` goes: the same group and name below `out`, never compressed."""
    root = folder / "data" if (folder / "data").is_dir() else folder
    return out / path.relative_to(root).parent / path.name.removesuffix(".gz")


def read_table(path: Path, delimiter: str) -> tuple[list[str], list[list[str]]]:
    """Return head and rows of a CSV file.

    Raises
    ------
    StorageError
        If it cannot be read, is empty, or a row has another number of cells than the head.
    """
    try:
        with gzip.open(path, "rt", newline="") if path.suffix == ".gz" else open(path, newline="") as file:
            lines = [line for line in csv.reader(file, delimiter=delimiter) if line]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise StorageError(f"{path} cannot be read: {error}") from error
    if not lines:
        raise StorageError(f"{path}: empty, expected a head line and rows")
    head = [name.strip() for name in lines[0]]
    for number, line in enumerate(lines[1:], 2):
        if len(line) != len(head):
            raise StorageError(f"{path}:{number}: {len(line)} cells, expected {len(head)} as in the head")
    return head, lines[1:]


def numbers(path: Path, head: list[str], rows: list[list[str]], name: str) -> NDArray[np.float64]:
    """Return a column as numbers, NaN where a cell is empty.

    Raises
    ------
    StorageError
        If there is no such column, or a cell is no number.
    """
    if name not in head:
        raise StorageError(f"{path}: no column {name!r}, it has {', '.join(head)}")
    at = head.index(name)
    try:
        return np.array([float(row[at]) if row[at].strip() else math.nan for row in rows])
    except ValueError as error:
        raise StorageError(f"{path}: column {name!r}: {error}") from error


def write_table(path: Path, head: Iterable[str], rows: Iterable[Iterable[str]]) -> None:
    """Write a CSV file, making its folder.

    Raises
    ------
    StorageError
        If it cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "w", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(head)
            writer.writerows(rows)
    except OSError as error:
        raise StorageError(f"{path} cannot be written: {error.strerror}") from error


def exact(scores: NDArray[np.float64]) -> Iterator[str]:
    """Yield scores as text that reads back as the same numbers."""
    return (repr(score) for score in scores.tolist())
