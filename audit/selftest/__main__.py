"""`python -m leakgauge.audit.selftest`: the thorough selftest, kept in docs/results and in the package."""

from __future__ import annotations

import datetime
import json
import sys
from pathlib import Path

from ..seeds import Seeds
from .coverage import FILE, coverage_summary
from .engine import run_selftest
from .report import SelftestReport

TRIALS = 20_000
SEED = 20261121


def main(repository: Path) -> int:
    """Run, write coverage.json, docs/results/selftest.json and selftest.md, and return 0 if every cell passed."""

    def show(done: int, planned: int) -> None:
        print(f"\r{done}/{planned} cells", end="", file=sys.stderr, flush=True)

    report = run_selftest(trials=TRIALS, seeds=Seeds(SEED), thorough=True, progress=show)
    date = datetime.datetime.now(datetime.UTC).date().isoformat()
    summary = json.dumps(coverage_summary(report, date), indent=1)
    (Path(__file__).parent / FILE).write_text(summary + "\n", encoding="utf-8")
    results = repository / "docs" / "results"
    results.mkdir(parents=True, exist_ok=True)
    (results / "selftest.json").write_text(json.dumps(report.to_json(), indent=1) + "\n", encoding="utf-8")
    (results / "selftest.md").write_text(_page(report, date), encoding="utf-8")
    print("\n" + "\n".join(report.table()))
    return 0 if report.passed else 1


def _page(report: SelftestReport, date: str) -> str:
    verdicts = [c.passed for c in report.false_claims] + [c.passed for c in report.power]
    versions = ", ".join(f"{name} {version}" for name, version in report.versions.items())
    return "\n".join(
        [
            "# Thorough selftest",
            "",
            f"{date}; {versions}; seed {report.seed}; {report.seconds:g} seconds on one core. "
            f"{len(verdicts)} cells, {verdicts.count(False)} failed.",
            "",
            "Count bounds are enumerated exactly (`exact`); other bounds are simulated, at the judging level 0.001",
            "with at least 100000 audits a cell (`bayesian` 20000). A cell fails above nominal + 3 standard errors.",
            "`bayesian` promises no frequency and is shown for comparison. A power cell fails below 0.95 of the limit,",
            "which the table gives to two decimals.",
            "",
            "Made by `python -m leakgauge.audit.selftest`; the numbers are in `selftest.json`.",
            "",
            "```",
            *report.table(),
            "```",
            "",
        ]
    )


if __name__ == "__main__":
    sys.exit(main(Path(__file__).resolve().parents[2]))
