"""`leakgauge report` and `leakgauge verify`: from stored results to files, for one run or several."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .errors import ConfigError
from .registry import PARTS

COMPARISON_NAME = "comparison.html"


@dataclass(frozen=True, slots=True)
class ReportRequest:
    """What was asked for. `out` is a folder for one run's report and a file for a comparison."""

    runs: Sequence[Path]
    formats: tuple[str, ...] = ("html", "md")
    reveal: bool = False
    language: str = "en"
    out: Path | None = None
    trend: Path | None = None
    statement: Path | None = None
    key: Path | None = None
    tracker: str | None = None


def report_runs(request: ReportRequest) -> list[Path]:
    """Attest, sign, render, track: what the request asks for, in this order; returns the files written."""
    if len(request.runs) == 1 and request.trend is None:
        return _one(request, audit_path(request.runs[0]))
    alone = {
        "--attest": request.statement,
        "--sign": request.key,
        "--track": request.tracker,
        "--reveal": request.reveal,
    }
    for option, value in alone.items():
        if value:
            raise ConfigError(f"{option} is for the report of one run, and this is a comparison; leave it out")
    return _several(request)


def audit_path(run: Path) -> Path:
    """`audit.json` of a run, given its folder or the file."""
    return run if run.is_file() else run / "audit.json"


def verify_lines(run: Path, key: Path | None) -> tuple[list[str], bool]:
    """One line a check, and whether nothing failed."""
    path = audit_path(run)
    trusted = PARTS.load("public-key")(key) if key else None
    checks = PARTS.load("verify")(path, trusted)
    return [f"{check.word:6} {check.what}: {check.detail}" for check in checks], all(
        c.passed is not False for c in checks
    )


def _one(request: ReportRequest, path: Path) -> list[Path]:
    audit: dict[str, Any] = PARTS.load("read")(path)
    written: list[Path] = []
    if request.statement or request.key:
        written += PARTS.load("vouch")(path, request.statement, request.key)
    out = request.out or path.parent
    render = PARTS.load("render")
    files: list[Path] = render(
        audit, out, request.formats, reveal=request.reveal, language=request.language, beside=path.parent
    )
    if request.tracker:
        PARTS.load("track")(audit, request.tracker, files=[] if request.reveal else files)
    return [*written, *files]


def _several(request: ReportRequest) -> list[Path]:
    audits = [PARTS.load("read")(audit_path(run)) for run in request.runs]
    trends: list[Any] = []
    if request.trend is not None:
        from .comparison.trend import read_trend

        trends = read_trend(request.trend)
    out = request.out or Path(COMPARISON_NAME)
    if out.is_dir():
        out = out / COMPARISON_NAME
    compare = PARTS.load("comparison-page")
    written: list[Path] = compare(audits, out, request.formats, trends=trends, language=request.language)
    return written
