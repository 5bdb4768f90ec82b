"""The pytest plugin: audits as fixtures, and a marker for slow ones. Loading it imports nothing heavy."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

SLOW = "leakgauge_slow"


@dataclass(frozen=True, slots=True)
class AuditRun:
    """A finished audit: its folder, the `audit.json` document, and the exit code that `leakgauge run` would give."""

    folder: Path
    document: Mapping[str, Any]
    exit_code: int

    @property
    def verdict(self) -> str:
        """The worst finding's verdict."""
        return str(self.document["verdict"])

    @property
    def findings(self) -> list[dict[str, Any]]:
        """All findings."""
        return list(self.document["findings"])

    def finding(self, attack: str, trainer: str | None = None) -> dict[str, Any]:
        """The one finding of an attack, on one trainer where there are several; `LookupError` otherwise."""
        found = [f for f in self.findings if f["attack"] == attack and trainer in {None, f["trainer"]}]
        if len(found) != 1:
            raise LookupError(f"{len(found)} findings of attack {attack!r} on trainer {trainer!r}, expected one")
        return found[0]


AuditFixture = Callable[..., AuditRun]


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--leakgauge-slow` runs slow audits, `--leakgauge-runs DIR` keeps runs, so that a later session resumes them."""
    group = parser.getgroup("leakgauge", "privacy audits")
    group.addoption("--leakgauge-slow", action="store_true", help=f"also run tests marked {SLOW}")
    group.addoption("--leakgauge-runs", metavar="DIR", help="keep audits in DIR and resume them in later sessions")


def pytest_configure(config: pytest.Config) -> None:
    """Make the marker known."""
    config.addinivalue_line("markers", f"{SLOW}: an audit that trains many models; needs --leakgauge-slow")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Skip slow audits unless they were asked for."""
    if config.getoption("--leakgauge-slow"):
        return
    skip = pytest.mark.skip(reason="a slow audit: give --leakgauge-slow")
    for item in items:
        if item.get_closest_marker(SLOW):
            item.add_marker(skip)


@pytest.fixture(scope="session")
def audit(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AuditFixture:
    """`audit("audits/small.toml", "audit.seed=7", device="cpu")` runs an audit file once a session; given an
    `audit.json` or the folder of a run it loads that.

    Paths are relative to the folder pytest was started in, else to pytest's root folder. A failing audit is returned
    and not raised: look at its `verdict`, or hand it to `assert_no_regression`.
    """
    kept = request.config.getoption("--leakgauge-runs")
    cache: dict[str, AuditRun] = {}

    def run(path: str | Path, *overrides: str, device: str = "cpu") -> AuditRun:
        file = _located(Path(path), request.config.rootpath)
        key = _key(file, overrides, device)
        if key not in cache:
            cache[key] = _loaded(file) if _is_run(file) else _run(file, overrides, device, folder(file, key))
        return cache[key]

    def folder(file: Path, key: str) -> Path:
        if kept is None:
            return tmp_path_factory.mktemp(f"audit-{file.stem}")
        return Path(kept) / f"{file.stem}-{key[:12]}"

    return run


def _located(path: Path, root: Path) -> Path:
    return path if path.exists() or path.is_absolute() else root / path


def _is_run(path: Path) -> bool:
    return path.is_dir() or path.suffix == ".json"


def _key(path: Path, overrides: tuple[str, ...], device: str) -> str:
    content = b"" if _is_run(path) or not path.is_file() else path.read_bytes()
    parts = [str(path.resolve()).encode(), content, *(o.encode() for o in overrides), device.encode()]
    return hashlib.sha256(b"\x1f".join(parts)).hexdigest()


def _run(path: Path, overrides: tuple[str, ...], device: str, out: Path) -> AuditRun:
    from .conduct import conduct

    code = conduct(path, out, overrides, device=device, quiet=True, command=f"pytest: {path.name}")
    return AuditRun(out, _document(out / "audit.json"), code)


def _loaded(path: Path) -> AuditRun:
    file = path / "audit.json" if path.is_dir() else path
    document = _document(file)
    verdicts = {f["verdict"] for f in document["findings"]}
    return AuditRun(
        file.parent, document, 1 if verdicts & {"violated", "exceeds-policy"} else 4 * ("error" in verdicts)
    )


def _document(path: Path) -> dict[str, Any]:
    from .comparison.build import read_run

    return read_run(path)
