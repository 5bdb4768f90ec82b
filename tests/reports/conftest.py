"""Puts the sample builder within reach of the report tests, which have no package of their own."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")


def _load_sample() -> Any:
    spec = importlib.util.spec_from_file_location("leakgauge_report_sample", Path(__file__).with_name("sample.py"))
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def builder() -> Any:
    """The module `sample.py`."""
    return _load_sample()


@pytest.fixture
def audit(builder: Any) -> dict[str, Any]:
    """A fresh audit document with all kinds of findings."""
    return builder.sample()


@pytest.fixture
def browse(tmp_path: Path) -> Callable[..., str]:
    """Runs headless Chromium on a file with further options and returns its standard output; skips without one."""
    browser = next((path for name in BROWSERS if (path := shutil.which(name))), None)
    if browser is None:
        pytest.skip("no Chromium on this machine: apt-get install chromium")

    def run(page: Path, *options: str) -> str:
        quiet = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"]
        quiet += ["--disable-background-networking", "--disable-component-update", "--disable-dev-shm-usage"]
        profile = f"--user-data-dir={tmp_path / 'profile'}"
        command = [browser, *quiet, profile, *options, page.as_uri()]
        return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout

    return run
