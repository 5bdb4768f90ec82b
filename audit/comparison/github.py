"""Workflow commands and the step summary: how a GitHub job shows what was found."""

from __future__ import annotations

import os
from pathlib import Path

from ..registry import PARTS


def workflow_command(level: str, file: str, line: int, title: str, message: str) -> str:
    """`::error file=...,line=...,title=...::message`, with the characters escaped that would end a part."""
    return f"::{level} file={_property(file)},line={line},title={_property(title)}::{_data(message)}"


def append_summary(text: str) -> None:
    """Append to the step summary of a GitHub job, where there is one."""
    path = os.environ.get("GITHUB_STEP_SUMMARY")
    if path:
        with Path(path).open("a", encoding="utf-8") as summary:
            summary.write(text + "\n")


def show_in_job(run: Path, summary: Path, *, language: str = "en") -> None:
    """Print a run's annotations, and append its `summary` to the job's; `run` is a folder or its audit.json."""
    path = run if run.is_file() else run / "audit.json"
    for line in PARTS.load("annotations")(PARTS.load("read")(path), path.parent, language=language):
        print(line)
    append_summary(summary.read_text(encoding="utf-8"))


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
