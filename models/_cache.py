"""Where compiled kernels are kept: a folder for every state of a file and of all that it imports.

numba looks only at the file a kernel stands in. A kernel that calls another file's would be taken from the
cache after that other file changed, and so compute what an older version did. So the folder of a kernel
is named by a fingerprint of its file, of every file of this package that it imports, directly or through
others, and of numba's version. A change then compiles anew what depends on it, and nothing else; and
equal files share a cache wherever they lie.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import os
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

_PLACE: Final = "NUMBA_CACHE_DIR"
_LOCATORS: Final = "NUMBA_CACHE_LOCATOR_CLASSES"
_FOLDER: Final = Path(__file__).parent
#: Ours, then numba's own for kernels of other packages.
_CHOICE: Final = (
    f"{__package__}._cache.Locator",
    "UserProvidedCacheLocator",
    "InTreeCacheLocator",
    "UserWideCacheLocator",
)


@functools.cache
def _imports(path: Path, folder: Path) -> frozenset[Path]:
    """Return the files of the package at `folder` that `path` imports."""
    return frozenset(_found(path, folder))


def _found(path: Path, folder: Path) -> Iterator[Path]:
    name = folder.name
    for node in ast.walk(ast.parse(_text(path))):
        if isinstance(node, ast.Import):
            modules = [alias.name.split(".") for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            here = path.relative_to(folder.parent).parts[:-1]
            base = [*here[: len(here) - node.level + 1]] if node.level else []
            base += node.module.split(".") if node.module else []
            modules = [base, *([*base, alias.name] for alias in node.names)]
        else:
            continue
        for parts in modules:
            for end in range(1, len(parts) + 1 if parts[:1] == [name] else 0):  # packages on the way too
                place = folder.joinpath(*parts[1:end])
                yield from (p for p in (place.with_suffix(".py"), place / "__init__.py") if p.is_file())


def closure(path: Path, folder: Path = _FOLDER) -> frozenset[Path]:
    """Return `path` and every file of the package at `folder` that it imports, directly or not."""
    seen: set[Path] = set()
    wanted = [path]
    while wanted:
        at = wanted.pop()
        if at not in seen:
            seen.add(at)
            wanted += _imports(at, folder)
    return frozenset(seen)


@functools.cache
def fingerprint(path: Path, folder: Path = _FOLDER) -> str:
    """Return a fingerprint of what the kernels in `path` are compiled from, and of numba's version."""
    digest = hashlib.sha256(version("numba").encode())
    for part in sorted(closure(path, folder)):
        digest.update(part.relative_to(folder).as_posix().encode() + b"\0" + _text(part) + b"\0")
    return digest.hexdigest()[:20]


@functools.cache
def _text(path: Path) -> bytes:
    return path.read_bytes()


class Locator:
    """Tells numba the folder of a kernel; the methods are those of numba's cache locators."""

    def __init__(self, line: int, path: Path) -> None:
        self._line = line
        self._stamp = fingerprint(path)
        name = ".".join(path.relative_to(_FOLDER).with_suffix("").parts)
        self._path = _base() / "kernels" / f"{name}-{self._stamp}"

    @classmethod
    def from_function(cls, function: Any, file: str) -> Locator | None:
        """Return the locator of a function of this package; None for others and where nothing can be kept."""
        path = Path(file)
        if not path.is_relative_to(_FOLDER):
            return None
        made = cls(function.__code__.co_firstlineno, path)
        try:
            made.ensure_cache_path()
        except OSError:
            return None
        return made

    def ensure_cache_path(self) -> None:
        """Make the folder; raise OSError where that, or writing to it, is not allowed."""
        self._path.mkdir(parents=True, exist_ok=True)
        if not os.access(self._path, os.W_OK):
            raise PermissionError(f"no permission to write to {self._path}")

    def get_cache_path(self) -> str:
        """Return the folder."""
        return str(self._path)

    def get_source_stamp(self) -> str:
        """Return what must be equal for a stored kernel to be used."""
        return self._stamp

    def get_disambiguator(self) -> str:
        """Return what tells functions of one name apart."""
        return str(self._line)


def use_own_cache() -> None:
    """Have numba ask `Locator` for the folder of every kernel."""
    os.environ[_LOCATORS] = ",".join(_CHOICE)


def _base() -> Path:
    """Return the folder given by the environment, else the package's own cache or the user's."""
    given = os.environ.get(_PLACE)
    if given:
        return Path(given)
    if os.access(_FOLDER, os.W_OK):
        return _FOLDER / "__pycache__"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "chargestream"
