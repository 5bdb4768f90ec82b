"""`leakgauge run` and `leakgauge report`: file in, folder of results out."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .config import load_config
from .errors import ConfigError
from .progress import Reporter
from .registry import PARTS


def conduct(
    path: Path,
    out: Path | None,
    overrides: Sequence[str],
    *,
    device: str,
    quiet: bool,
    command: str,
    executor: str = "local",
) -> int:
    """Run or resume an audit file, render the report, say where it is; returns the exit code of DESIGN 5."""
    from .cli import device_name
    from .existing import run_existing
    from .run import exit_code, run_audit

    started = time.perf_counter()
    config = load_config(path, overrides)
    folder = out or Path("runs") / config.audit.name
    reporter = Reporter(quiet=quiet)
    common: dict[str, Any] = {
        "out": folder,
        "device": device_name(device),
        "reporter": reporter,
        "command": command,
        "source": path.read_text(encoding="utf-8"),
    }
    if config.target is None:
        audit = run_audit(config, executor=executor, **common)
    elif executor == "local":
        audit = run_existing(config, **common)
    else:
        raise ConfigError(f"--executor {executor!r}: [target] is a model that exists, nothing is trained: leave it out")
    written = PARTS.load("render")(audit, folder, ("html", "md"))
    reporter.say(f"verdict: {audit['verdict']} ({time.perf_counter() - started:.0f} s)")
    for file in [folder / "audit.json", *written]:
        reporter.say(f"  {file}")
    return exit_code(audit, config)
