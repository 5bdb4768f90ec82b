"""Makes the environment of the peers: `python -m leakgauge.benchmarks.peers --install`."""

from __future__ import annotations

import os
import subprocess
import sys
import venv
from pathlib import Path

from ...audit.errors import PrerequisiteError

COMMAND = "python -m leakgauge.benchmarks.peers --install"
CONSTRAINTS = Path(__file__).resolve().parents[1] / "peers-constraints.txt"
TORCH = ("torch",)
LIBRARIES = (
    "numpy",
    "scipy",
    "scikit-learn",
    "pandas",
    "statsmodels",
    "immutabledict",
    "absl-py",
    "joblib",
    "matplotlib",
    "tqdm",
    "packaging",
    "plotly",
    "textdistance",
    "dp-accounting",
    "adversarial-robustness-toolbox",
    "privacy-estimates",
)
WITHOUT_DEPENDENCIES = ("privacyguard-platform", "jax-privacy", "tensorflow-empirical-privacy")
"""These declare whole frameworks (JAX, TensorFlow, torchvision) that the parts compared here do not use."""


def environment_folder() -> Path:
    """$LEAKGAUGE_PEERS, by default `.peers` in the current folder."""
    return Path(os.environ.get("LEAKGAUGE_PEERS") or ".peers")


def pip_commands(folder: Path) -> list[list[str]]:
    """The three pip commands, in order: torch first, so that nothing else chooses its version."""
    python = str(folder / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python"))
    pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-c", str(CONSTRAINTS)]
    return [[*pip, *TORCH], [*pip, *LIBRARIES], [*pip, "--no-deps", *WITHOUT_DEPENDENCIES]]


def install(folder: Path) -> None:
    """Creates the environment and installs the pinned peers from PyPI; takes about two minutes.

    `PrerequisiteError` when the pinned list is missing or pip fails.
    """
    if not CONSTRAINTS.is_file():
        raise PrerequisiteError(f"bench peers: no {CONSTRAINTS}; run it from a checkout of LeakGauge")
    venv.create(folder, with_pip=True)
    # The folder ignores itself, wherever it is put.
    (folder / ".gitignore").write_text("*\n", encoding="utf-8")
    for command in pip_commands(folder):
        print(" ".join(command), flush=True)
        if subprocess.run(command, check=False).returncode != 0:
            raise PrerequisiteError(f"bench peers: pip failed in {folder}; the command was: {' '.join(command)}")
