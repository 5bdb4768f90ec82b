"""The runs behind a baseline: one audit file, several seeds."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from ..config import load_config
from ..errors import ConfigError
from ..progress import Reporter
from .baseline import LEAST_SEEDS


def run_seeds(
    path: Path, count: int, out: Path | None, overrides: Sequence[str], *, device: str, quiet: bool
) -> list[Path]:
    """Run or resume an audit file with the `count` seeds after its own; returns the paths of their `audit.json`.

    The file's own seed is left to the runs that will be compared. A seed decides everything random: which records are
    audited, coins, canaries, initial weights, batches, noise. Results lie in `out`/seed-N, by default below
    runs/NAME-baseline.
    """
    from ..run import run_audit

    if count < LEAST_SEEDS:
        raise ConfigError(
            f"--seeds must be at least {LEAST_SEEDS}, got {count}: fewer do not show how much training varies"
        )
    first = load_config(path, overrides)
    if first.target:
        raise ConfigError(
            "baseline: [target] is an existing model, which no seed trains again: audit models retrained with other "
            "seeds and give their runs to `leakgauge compare BASELINE.json RUN... --update`"
        )
    folder = out or Path("runs") / f"{first.audit.name}-baseline"
    reporter = Reporter(quiet=quiet)
    found = []
    for seed in range(first.audit.seed + 1, first.audit.seed + 1 + count):
        reporter.say(f"seed {seed}")
        run_audit(
            load_config(path, [*overrides, f"audit.seed={seed}"]),
            out=folder / f"seed-{seed}",
            device=device,
            reporter=Reporter(quiet=quiet),
            command=shlex.join(["leakgauge", *sys.argv[1:]]),
            source=path.read_text(encoding="utf-8"),
        )
        found.append(folder / f"seed-{seed}" / "audit.json")
    return found
