"""The files that CI systems read are complete and name what exists."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import yaml

from leakgauge.audit.cli import app

ROOT = Path(__file__).resolve().parents[2]


def test_the_action_hands_every_input_to_the_script():
    action = yaml.safe_load((ROOT / "action.yml").read_text())
    assert action["runs"]["using"] == "composite"
    steps = action["runs"]["steps"]
    assert all("shell" in step or "uses" in step for step in steps)
    (audit,) = (step for step in steps if step.get("id") == "audit")
    script = (ROOT / "ci" / "audit.sh").read_text()
    for name in audit["env"]:
        assert f"${{{name}" in script, name
    used = set(re.findall(r"inputs\.([a-z]+)", (ROOT / "action.yml").read_text()))
    assert used == set(action["inputs"])
    written = set(re.findall(r'echo "([a-z-]+)=', script))
    read = set(re.findall(r"steps\.audit\.outputs\.([a-z-]+)", (ROOT / "action.yml").read_text()))
    assert read == written == set(action["outputs"])


def test_no_input_is_pasted_into_a_script():
    # An expression inside `run` would let whoever names a branch or a file run commands.
    for step in yaml.safe_load((ROOT / "action.yml").read_text())["runs"]["steps"]:
        assert "${{" not in step.get("run", "")


def test_nothing_personal_is_uploaded():
    paths = yaml.safe_load((ROOT / "action.yml").read_text())["runs"]["steps"][-1]["with"]["path"].splitlines()
    gitlab = yaml.safe_load((ROOT / "ci" / "gitlab.yml").read_text())[".leakgauge"]["artifacts"]["paths"]
    for path in [*paths, *gitlab]:
        assert path.rsplit("/", 1)[1] in {"audit.json", "report.*", "junit.xml", "summary.md"}, path


def test_scripts_are_valid_bash():
    job = yaml.safe_load((ROOT / "ci" / "gitlab.yml").read_text())[".leakgauge"]
    for text in ((ROOT / "ci" / "audit.sh").read_text(), "\n".join(job["script"])):
        subprocess.run(["bash", "-n"], input=text, text=True, check=True)


def test_the_hook_runs_a_command_that_exists_on_audit_files():
    (hook,) = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text())
    assert {"id", "name", "entry", "language", "files"} <= set(hook)
    program, command = hook["entry"].split()
    assert program == "leakgauge"
    assert command in {c.name or c.callback.__name__ for c in app.registered_commands if c.callback}
    pattern = re.compile(hook["files"])
    for path in ("audit.toml", "audits/main.toml", "deep/audits/x/y.yaml", "sub/audit.yml"):
        assert pattern.search(path), path
    for path in ("pyproject.toml", "audit.py", "src/auditor/a.toml"):
        assert not pattern.search(path), path
