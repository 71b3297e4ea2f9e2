"""The cache of compiled kernels: what makes one stale, and what does not."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from models import _cache
from models._cache import closure, fingerprint

ROOT = Path(__file__).resolve().parents[2]
_FILES = {
    "__init__.py": "",
    "kernels.py": "from .helpers import step\nimport numpy\n",
    "helpers.py": "from made.constants import LIMIT\nfrom . import units\n",
    "constants.py": "LIMIT = 1\n",
    "units.py": "import made.deep.scale\n",
    "deep/__init__.py": "",
    "deep/scale.py": "from ..constants import LIMIT\n",
    "stranger.py": "from .kernels import step\n",
}


def _forget() -> None:
    """Have the next fingerprint look at the files again, as another process would."""
    for known in (fingerprint, _cache._imports, _cache._text):
        known.cache_clear()


@pytest.fixture
def package(tmp_path: Path) -> Path:
    folder = tmp_path / "made"
    for name, text in _FILES.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def test_closure_follows_every_form_of_import(package: Path) -> None:
    names = {path.relative_to(package).as_posix() for path in closure(package / "kernels.py", package)}
    assert names == _FILES.keys() - {"stranger.py"}


@pytest.mark.parametrize(
    "name", ["kernels.py", "helpers.py", "constants.py", "units.py", "deep/scale.py", "deep/__init__.py"]
)
def test_a_change_of_what_is_imported_is_another_fingerprint(package: Path, name: str) -> None:
    before = fingerprint(package / "kernels.py", package)
    with (package / name).open("a") as file:
        file.write("# changed\n")
    _forget()
    assert fingerprint(package / "kernels.py", package) != before


def test_a_change_elsewhere_is_none(package: Path) -> None:
    before = fingerprint(package / "kernels.py", package)
    (package / "stranger.py").write_text("changed = 1\n")
    _forget()
    assert fingerprint(package / "kernels.py", package) == before


def test_numba_stores_kernels_there_and_takes_them_from_there(tmp_path: Path) -> None:
    program = "from models.interning import _hash as f; print(f._cache.cache_path)"
    env = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path), "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", program], env=env, capture_output=True, text=True, check=True, cwd=tmp_path
    )
    assert done.stdout.strip().startswith(str(tmp_path / "kernels" / "interning-"))
