"""`leakgauge bench broken`: catches every entry of the zoo and raises no alarm on the correct trainers."""

from __future__ import annotations

import json
import sys
import time
import warnings
from pathlib import Path

from ...audit.seeds import Seeds
from .agreement import agreements
from .catalogue import CORRECT, ZOO
from .measure import Progress, alarm_all, examine_all
from .report import Results, markdown, print_tables

ROOT = 20261121
AUDITS, REAL, CHECKS = 40, 5, 10
"""Of each correct trainer: dynamic audits, those of them on the trainer itself, rounds of static checks and probes."""


def run(out: Path) -> int:
    """Examine the zoo and the correct trainers; print tables, write `broken.json` and `broken.md` to the folder `out`.

    Returns 1 when an entry is missed, an alarm is false at confidence 0.999, or a simulation does not agree with the
    trainer it stands for; else 0.
    """
    results = measure()
    out.mkdir(parents=True, exist_ok=True)
    (out / "broken.json").write_text(json.dumps(results.to_json(), indent=1) + "\n", encoding="utf-8")
    (out / "broken.md").write_text(markdown(results), encoding="utf-8")
    print_tables(results)
    return 0 if results.good else 1


def measure() -> Results:
    """Everything, with the processor seconds it took."""
    started, processor = time.monotonic(), time.process_time()
    seeds = Seeds(ROOT)
    say = Progress(len(ZOO) + len(CORRECT) + 1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        outcomes = examine_all(ZOO, seeds=seeds.at("zoo"), say=say)
        alarms = alarm_all(CORRECT, audits=AUDITS, real=REAL, checks=CHECKS, seeds=seeds.at("correct"), say=say)
        agreed = agreements(seeds=seeds.at("agreement"))
        say("simulations held against real runs")
    return Results(
        tuple(outcomes),
        tuple(alarms),
        tuple(agreed),
        elapsed=time.monotonic() - started,
        processor=time.process_time() - processor,
    )


if __name__ == "__main__":
    sys.exit(run(Path(sys.argv[1] if len(sys.argv) > 1 else "runs/bench-broken")))
