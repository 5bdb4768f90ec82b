"""A project's own folder is found although an installed package has its name (opacus brings a `benchmarks`)."""

from __future__ import annotations

import subprocess
import sys

CODE = """
import benchmarks.layers
from leakgauge.audit.registry import load_attribute
print(load_attribute("benchmarks.mine:ANSWER", "test"), benchmarks.__file__)
"""


def test_a_folder_joins_the_package_of_its_name(tmp_path):
    (tmp_path / "site" / "benchmarks").mkdir(parents=True)
    (tmp_path / "site" / "benchmarks" / "__init__.py").touch()
    (tmp_path / "site" / "benchmarks" / "layers.py").touch()
    (tmp_path / "here" / "benchmarks").mkdir(parents=True)
    (tmp_path / "here" / "benchmarks" / "mine.py").write_text("ANSWER = 42\n")
    (tmp_path / "here" / "benchmarks" / "layers.py").write_text("raise RuntimeError('the installed one goes first')\n")
    # -P, as with an installed command: the current folder is not searched first.
    code = f"import sys; sys.path.insert(0, {str(tmp_path / 'site')!r})\n{CODE}"
    command = [sys.executable, "-P", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path / "here", check=False)
    assert done.stdout.split() == ["42", str(tmp_path / "site" / "benchmarks" / "__init__.py")], done.stderr
