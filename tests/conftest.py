"""What every test has: a stable kernel cache, printed seeds, the data folder, a count of missing servers."""

from __future__ import annotations

import logging
import os
import random
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

# Before anything imports numba: compiled kernels outlive the run, whoever starts it.
os.environ.setdefault("NUMBA_CACHE_DIR", str(ROOT / ".numba_cache"))

SEED = int(os.environ.get("CHARGESTREAM_TEST_SEED", "1"))


def pytest_report_header() -> str:
    """Print the seed: the same seed and commit are the same run."""
    return f"chargestream: CHARGESTREAM_TEST_SEED={SEED}, data folder {_data_dir() or 'not there'}"


def pytest_configure(config: pytest.Config) -> None:
    """Let hypothesis draw the same examples for the same commit; a failure prints how to repeat it."""
    from hypothesis import HealthCheck, settings

    settings.register_profile(
        "chargestream",
        deadline=None,
        print_blob=True,
        derandomize=True,
        database=None,
        suppress_health_check=[HealthCheck.too_slow],
    )
    settings.load_profile("chargestream")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Count the tests that a missing server kept from running."""
    from .servers import MISSING

    skipped = [r for r in terminalreporter.stats.get("skipped", []) if MISSING in str(r.longrepr)]
    if skipped:
        terminalreporter.write_sep("=", f"{len(skipped)} tests skipped for a missing server", yellow=True)


@pytest.fixture
def seed() -> int:
    """Return the seed of this run."""
    return SEED


@pytest.fixture
def rng() -> random.Random:
    """Return a generator seeded by this run's seed."""
    return random.Random(SEED)


@pytest.fixture(autouse=True)
def _log_reaches_caplog() -> None:
    """Let the log reach caplog: a command that an earlier test ran here set it up for itself."""
    log = logging.getLogger("chargestream")
    log.handlers.clear()
    log.setLevel(logging.NOTSET)
    log.propagate = True


@pytest.fixture
def asked_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take requests that come over no connection, which the kernel knows nothing of, for this user's."""
    monkeypatch.setattr("connectors.api.here.owner", lambda *_: None)


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """Return the folder of real and sample data, or skip saying so."""
    path = _data_dir()
    if path is None:
        pytest.skip("no data: set CHARGESTREAM_DATA to the folder that holds ev and native-sample")
    return path


def _data_dir() -> Path | None:
    named = os.environ.get("CHARGESTREAM_DATA")
    return Path(named) if named and Path(named).is_dir() else None
