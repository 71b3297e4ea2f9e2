"""Where compiled kernels are kept: a folder of their own for every state of this package.

numba looks only at the file a kernel stands in. A kernel that calls another file's would be taken from the
cache after that other file changed, and so compute what an older version did. The folder's name therefore
holds a fingerprint of all files of the package and of numba's version.
"""

from __future__ import annotations

import hashlib
import os
from importlib.metadata import version
from pathlib import Path
from typing import Final

_VARIABLE: Final = "NUMBA_CACHE_DIR"
_PREFIX: Final = "kernels-"


def fingerprint(folder: Path) -> str:
    """Return a fingerprint of the Python files under `folder` and of numba's version."""
    digest = hashlib.sha256(version("numba").encode())
    for path in sorted(folder.rglob("*.py")):
        digest.update(path.relative_to(folder).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:16]


def use_own_cache() -> None:
    """Point numba to the folder of this state; an inherited folder is kept as the place for it."""
    folder = Path(__file__).parent
    wanted = _PREFIX + fingerprint(folder)
    given = os.environ.get(_VARIABLE)
    base = Path(given) if given else _default_base(folder)
    if base.name.startswith(_PREFIX):
        base = base.parent  # inherited from a process of ours
    os.environ[_VARIABLE] = str(base / wanted)


def _default_base(folder: Path) -> Path:
    """Return the package's own ``__pycache__`` where it can be written, else the user's cache."""
    if os.access(folder, os.W_OK):
        return folder / "__pycache__"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "chargestream"
