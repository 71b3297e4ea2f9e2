"""Files of models: NumPy's .npz without pickled objects, known by the fingerprint of their content."""

from __future__ import annotations

import hashlib
import io
import json
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from models.errors import ConfigError

FORMAT: Final = 1
SUFFIX: Final = ".npz"
_ID_LENGTH: Final = 16

Arrays = dict[str, NDArray[Any]]


class Model(Protocol):
    """What every kind of model is: a header that is JSON data, and arrays."""

    @property
    def header(self) -> dict[str, Any]:
        """JSON data."""

    def arrays(self) -> Arrays:
        """Return all arrays by name."""

    @property
    def model_id(self) -> str:
        """Fingerprint of header and arrays."""


def identity(header: dict[str, Any], arrays: Arrays) -> str:
    """Return the first characters of the SHA-256 of header and arrays: equal models have equal ids."""
    digest = hashlib.sha256(json.dumps(header, sort_keys=True).encode())
    for name, array in sorted(arrays.items()):
        digest.update(f"{name} {array.dtype.str} {array.shape} ".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()[:_ID_LENGTH]


def encode(model: Model) -> bytes:
    """Return a model as the bytes of a file."""
    header = np.frombuffer(json.dumps(model.header, sort_keys=True).encode(), np.uint8)
    out = io.BytesIO()
    np.savez_compressed(out, header=header, **model.arrays())  # type: ignore[arg-type]
    return out.getvalue()


def save(model: Model, directory: Path) -> Path:
    """Write a model into a model directory, under its id; return the file."""
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / f"{model.model_id}{SUFFIX}"
    partial = path.with_suffix(".part")
    partial.write_bytes(encode(model))
    partial.replace(path)
    return path


def read(path: Path) -> tuple[dict[str, Any], Arrays]:
    """Return header and arrays of a file, whatever the kind of model.

    Raises
    ------
    ConfigError
        If the file is missing, is no model, or is not what its name says.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        header: dict[str, Any] = json.loads(arrays.pop("header").tobytes())
        found = identity(header, arrays)
    except FileNotFoundError:
        raise ConfigError(f"{path}: there is no such model") from None
    except Exception as error:  # a damaged archive raises almost anything
        raise ConfigError(f"{path}: not a model file ({error})") from error
    if found != path.stem:
        raise ConfigError(f"{path}: its content is model {found}; it was changed or renamed")
    return header, arrays


def expect(path: Path, header: dict[str, Any], kind: str, features_version: int) -> None:
    """Raise `ConfigError` unless a header is of this kind and of the features that this program makes."""
    found = tuple(header.get(name) for name in ("kind", "format", "features_version"))
    expected = (kind, FORMAT, features_version)
    if found != expected:
        raise ConfigError(f"{path}: kind, format, features are {found}, expected {expected}")


def find(directory: Path | str, name: str) -> Path:
    """Return the file of the model whose id begins with `name`.

    Raises
    ------
    ConfigError
        If there is none, or more than one.
    """
    known = sorted(Path(directory).glob(f"*{SUFFIX}"))
    found = [path for path in known if name and path.stem.startswith(name)]
    if len(found) != 1:
        ids = ", ".join(path.stem for path in known) or "none"
        raise ConfigError(f"{directory}: no single model {name!r}; there are {ids}")
    return found[0]
