"""Puts the sample builder and the browser within reach of the report tests, which have no package of their own."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
AXE = "axe-core@4.14.1"


def _load(name: str) -> Any:
    spec = importlib.util.spec_from_file_location(f"leakgauge_report_{name}", Path(__file__).with_name(f"{name}.py"))
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    # Dataclasses look their module up by name.
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def builder() -> Any:
    """The module `sample.py`."""
    return _load("sample")


@pytest.fixture
def audit(builder: Any) -> dict[str, Any]:
    """A fresh audit document with all kinds of findings."""
    return builder.sample()


@pytest.fixture(scope="session")
def chromium() -> str:
    """The path of Chromium. As root on a machine with apt-get it is installed; otherwise the test is skipped."""
    found = _which_browser()
    if found is None and os.geteuid() == 0 and shutil.which("apt-get"):
        command = ["apt-get", "install", "-y", "--no-install-recommends", "chromium"]
        quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        tried = subprocess.run(command, capture_output=True, timeout=300, check=False, env=quiet, text=True)
        found = _which_browser()
        if found is None:
            pytest.skip(f"no Chromium, and apt-get could not install it: {tried.stderr.strip()[-200:]}")
    if found is None:
        pytest.skip("no Chromium on this machine: apt-get install chromium")
    return found


def _which_browser() -> str | None:
    return next((path for name in BROWSERS if (path := shutil.which(name))), None)


@pytest.fixture(scope="session")
def browser(chromium: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """One headless Chromium for all tests of a session."""
    with _load("browser").Browser(chromium, tmp_path_factory.mktemp("chromium")) as running:
        yield running


@pytest.fixture(scope="session")
def axe(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The source of axe-core from the npm registry; skips where npm or the registry is out of reach."""
    if shutil.which("npm") is None:
        pytest.skip("no npm on this machine: axe-core cannot be fetched")
    folder = tmp_path_factory.mktemp("axe")
    try:
        fetched = subprocess.run(
            ["npm", "pack", "--silent", AXE], cwd=folder, capture_output=True, text=True, timeout=60, check=True
        )
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
        pytest.skip(f"npm could not fetch {AXE}: {error}")
    with tarfile.open(folder / fetched.stdout.strip().splitlines()[-1]) as archive:
        source = archive.extractfile("package/axe.min.js")
        assert source
        return source.read().decode()
