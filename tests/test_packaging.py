"""The wheel holds exactly the five folders under the one name `leakgauge`, and nothing at top level."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ("audit", "trainers", "attacks", "benchmarks", "reports")
DATA = {".toml", ".json", ".j2", ".html", ".md", ".css", ".txt"}


def tracked() -> set[str]:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    return {f for f in listed if f.split("/")[0] in FOLDERS and (ROOT / f).exists()}


def test_wheel_equals_the_tree(tmp_path):
    copy = tmp_path / "source"
    # The tracked files only: a developer's caches and runs must not decide what is shipped.
    for name in subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split():
        if (ROOT / name).exists():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            (copy / name).write_bytes((ROOT / name).read_bytes())
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--no-deps",
        "--no-build-isolation",
        "-q",
        "-w",
        str(tmp_path),
        str(copy),
    ]
    subprocess.run(command, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("leakgauge-*.whl")
    names = {n for n in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in n}
    assert {n.split("/")[0] for n in names} == {"leakgauge"}
    shipped = {n.removeprefix("leakgauge/") for n in names}
    expected = {f for f in tracked() if Path(f).suffix in DATA | {".py"}}
    assert shipped - {"__init__.py", "__main__.py"} == expected
