from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import settings
from repository import CI_VARIABLES, REPOSITORY

# Nothing is timed in a test; under CI the same examples are tried every time.
settings.register_profile("fairtest", deadline=None, derandomize=bool(os.environ.get("CI")))
settings.load_profile("fairtest")

pytest_plugins = ["pytester"]


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """Published data sets, read in place; tests that need them skip where they are absent."""
    path = Path(os.environ.get("FAIRTEST_DATA_DIR") or REPOSITORY.parent / "shared" / "data").resolve()
    if not path.is_dir():
        pytest.skip(f"the data directory {path} is absent (set FAIRTEST_DATA_DIR)")
    return path


@pytest.fixture(autouse=True)
def _settings_come_from_the_test_alone(monkeypatch):
    for name in ("FAIRTEST_CACHE_DIR", *CI_VARIABLES):
        monkeypatch.delenv(name, raising=False)
