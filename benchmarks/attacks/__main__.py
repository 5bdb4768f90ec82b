"""`python -m leakgauge.benchmarks.attacks [--dataset digits]... [--trainer sgd]... [--attack lira]...`"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from ...audit.errors import LeakGaugeError
from .cases import CASES, TRAINERS
from .suite import Settings, run


def main(arguments: list[str]) -> int:
    """A part of the suite, or all of it. Returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m leakgauge.benchmarks.attacks", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("runs/bench-attacks"), help="where results go")
    parser.add_argument("--dataset", action="append", choices=list(CASES), help="a data set; default all")
    parser.add_argument("--trainer", action="append", choices=list(TRAINERS), help="a way of training; default all")
    parser.add_argument("--attack", action="append", help="an attack by its registered name; default all")
    parser.add_argument("--shadows", type=int, default=Settings().shadows, help="shadow models a cell, even")
    parser.add_argument("--targets", type=int, default=Settings().targets, help="target models a cell, at least 2")
    parser.add_argument("--records", type=int, default=None, help="audit records a cell; default the data set's own")
    given = parser.parse_args(arguments)
    try:
        settings = Settings(
            shadows=given.shadows,
            targets=given.targets,
            records=given.records,
            datasets=tuple(given.dataset or CASES),
            trainers=tuple(given.trainer or TRAINERS),
            attacks=None if given.attack is None else tuple(given.attack),
        )
        return run(given.out, settings)
    except LeakGaugeError as error:
        print(error, file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
