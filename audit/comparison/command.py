"""`leakgauge compare` and `leakgauge baseline`: files in, exit code of DESIGN 5 out."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from ..errors import ConfigError
from .baseline import LEAST_SEEDS, Baseline, read_baseline, write_baseline
from .build import build_baseline, read_run
from .compare import compare_run
from .display import annotate, markdown, text_lines
from .extract import keyed
from .figures import unscaled
from .github import append_summary
from .prediction import Prediction


def compare_command(
    baseline: Path, runs: Sequence[Path], *, confidence: float, as_json: bool = False, github: bool = False
) -> int:
    """Compare one run with a baseline and print what was found; returns the exit code."""
    if len(runs) != 1:
        raise ConfigError(f"compare: {len(runs)} runs given; give one run, or --update to make a baseline of them")
    found = compare_run(read_baseline(baseline), read_run(runs[0]), confidence=confidence)
    if as_json:
        print(json.dumps(found.to_json(), indent=1, allow_nan=False))
    else:
        for line in text_lines(found):
            print(line)
    if github:
        stream = sys.stderr if as_json else sys.stdout
        for line in annotate(found, str(baseline)):
            print(line, file=stream)
        append_summary(markdown(found))
    return found.exit_code


def update_command(
    baseline: Path, runs: Sequence[Path], *, statistic: str | None = None, commit: str | None = None
) -> int:
    """Write `baseline` from runs of at least five seeds, and say what moved against the one that was there."""
    if len(runs) < LEAST_SEEDS:
        raise ConfigError(
            f"compare --update: {len(runs)} runs given, a baseline needs {LEAST_SEEDS} of different seeds; "
            "`leakgauge baseline AUDIT.toml` makes them"
        )
    made = build_baseline([read_run(run) for run in runs], statistic=statistic, commit=commit)
    before = read_baseline(baseline) if baseline.exists() else None
    write_baseline(made, baseline)
    for line in summary_lines(made, before):
        print(line, file=sys.stderr)
    print(baseline)
    return 0


def summary_lines(made: Baseline, before: Baseline | None) -> list[str]:
    """A line for each finding that decides by a figure: the mean over the seeds, and what it was before."""
    lines = [f"baseline of {made.name}: {len(made.seeds)} seeds, {len(made.findings)} findings"]
    old = means(before) if before is not None else {}
    for key, (statistic, mean) in means(made).items():
        was = old.get(key)
        change = f" (was {was[1]:.4g})" if was is not None and was[0] == statistic else ""
        lines.append(f"  {key}: {statistic} {mean:.4g}{change}")
    return lines


def means(baseline: Baseline) -> dict[str, tuple[str, float]]:
    """By finding, the statistic that decides and its mean over the seeds."""
    found = {}
    for key, finding in keyed((f.rule, f.trainer, f.attack, f) for f in baseline.findings).items():
        if finding.statistic is not None:
            figures = finding.figures[finding.statistic]
            seen = figures.observations()
            mean = unscaled(finding.statistic, Prediction.of(seen).mean, seen[0].n, figures.better)
            found[str(key)] = (finding.statistic, mean)
    return found
