"""Imports run one way (DESIGN 2), and what must stay light stays light."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ("audit", "trainers", "attacks", "benchmarks", "reports")
MAY_IMPORT = {
    "audit": {"audit"},
    "trainers": {"trainers", "audit"},
    "attacks": {"attacks", "audit"},
    "reports": {"reports", "audit"},
    "benchmarks": set(FOLDERS),
}
HEAVY = {"torch", "opacus", "transformers", "datasets", "sklearn", "matplotlib", "pandas", "pyarrow", "jinja2"}


def modules() -> list[Path]:
    return [p for folder in FOLDERS for p in sorted((ROOT / folder).rglob("*.py"))]


def imported(path: Path, *, top_level_only: bool) -> set[str]:
    """Absolute dotted names imported by a file; our own start with `leakgauge.`."""
    package = ["leakgauge", *path.relative_to(ROOT).parts[:-1]]
    tree = ast.parse(path.read_text(encoding="utf-8"))
    nodes = tree.body if top_level_only else list(ast.walk(tree))
    names: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            names |= {a.name for a in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            stem = ".".join([*base, *([node.module] if node.module else [])])
            names |= {stem} if node.module else {f"{stem}.{a.name}" for a in node.names}
    return names


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_run_one_way(path):
    folder = path.relative_to(ROOT).parts[0]
    seen = {n.split(".")[1] for n in imported(path, top_level_only=False) if n.startswith("leakgauge.") and "." in n}
    wrong = (seen & set(FOLDERS)) - MAY_IMPORT[folder]
    assert not wrong, f"{path.relative_to(ROOT)} must not import {wrong}"


@pytest.mark.parametrize("folder", ["audit", "reports"])
def test_heavy_packages_are_imported_inside_functions(folder):
    for path in sorted((ROOT / folder).rglob("*.py")):
        heavy = {n.split(".")[0] for n in imported(path, top_level_only=True)} & HEAVY
        assert not heavy, f"{path.relative_to(ROOT)} imports {heavy} at module level"


def modules_loaded_by(arguments: list[str]) -> set[str]:
    code = (
        "import sys; sys.argv = ['leakgauge', *sys.argv[1:]]\n"
        "from leakgauge.audit.cli import main\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "print('LOADED', *sorted(m for m in sys.modules if '.' not in m))"
    )
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True)
    return set(done.stdout.rsplit("LOADED", 1)[1].split())


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["list", "attacks"],
        ["bound", "one-run", "--canaries", "100", "--guesses", "50", "--correct", "40", "--json"],
        ["account", "dp-sgd", "--noise-multiplier", "1", "--sample-rate", "0.01", "--steps", "10", "--delta", "1e-5"],
    ],
    ids=lambda a: a[0],
)
def test_light_commands_import_no_torch(arguments):
    assert not modules_loaded_by(arguments) & {"torch", "opacus", "transformers", "datasets", "sklearn"}


def test_help_imports_not_even_numpy_heavy_parts():
    assert not modules_loaded_by(["--help"]) & (HEAVY | {"scipy"})


def test_nothing_is_ever_unpickled():
    for path in modules():
        names = {n.split(".")[0] for n in imported(path, top_level_only=False)}
        assert not names & {"pickle", "dill", "cloudpickle", "torchvision", "lpips", "random"}, path
        assert "torch.load(" not in path.read_text(encoding="utf-8"), path
