"""`python -m leakgauge.benchmarks.peers [--install] [--out DIR]`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from ...audit.errors import LeakGaugeError
from .install import environment_folder, install
from .suite import run


def main(arguments: list[str]) -> int:
    """With `--install` makes the peers' environment, otherwise runs the suite. Returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m leakgauge.benchmarks.peers", description=__doc__)
    parser.add_argument("--install", action="store_true", help="make the environment of the peers, and nothing else")
    parser.add_argument("--out", type=Path, default=Path("runs/bench-peers"), help="where results go")
    given = parser.parse_args(arguments)
    try:
        if given.install:
            install(environment_folder())
            return 0
        return run(given.out)
    except LeakGaugeError as error:
        print(error, file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
