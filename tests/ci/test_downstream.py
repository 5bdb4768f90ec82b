"""Somebody else's project, with its own attacks/, benchmarks/ and reports/, in CI: exit codes, JUnit, SARIF, pytest."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

ROOT = Path(__file__).resolve().parents[2]
TEMPLATE = ROOT / "tests" / "downstream"
HALVED = (
    "noisy_sum(data, rows, self.noise_multiplier, seeds)",
    "noisy_sum(data, rows, self.noise_multiplier / 2, seeds)",
)


@pytest.fixture
def project(tmp_path):
    """A scratch copy of the downstream repository."""
    shutil.copytree(TEMPLATE, tmp_path / "project", ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path / "project"


def environment(project: Path, **more: str) -> dict[str, str]:
    """What a GitHub job gives a step, with this interpreter's commands first."""
    bare = {k: v for k, v in os.environ.items() if not k.startswith(("GITHUB_", "CI", "PYTEST_"))}
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    job = {name: str(project.parent / name) for name in ("GITHUB_STEP_SUMMARY", "GITHUB_OUTPUT")}
    return {**bare, **job, "PATH": path, "GITHUB_ACTIONS": "true", "OMP_NUM_THREADS": "1", "DEVICE": "cpu", **more}


def action(project: Path, **settings: str) -> subprocess.CompletedProcess[str]:
    """The script of the GitHub Action under plain bash."""
    usual = {"AUDIT": "audits/private.toml", "OUT": "out", "BASELINE": "reports/baseline.json"}
    job = environment(project, **{**usual, **settings})
    return subprocess.run(["bash", str(ROOT / "ci" / "audit.sh")], capture_output=True, text=True, cwd=project, env=job)


def outputs(project: Path) -> dict[str, str]:
    lines = (project.parent / "GITHUB_OUTPUT").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines)


def replace(file: Path, old: str, new: str) -> None:
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))


def test_an_unchanged_project_passes(project):
    done = action(project)
    assert done.returncode == 0, done.stdout + done.stderr
    assert outputs(project) == {"exit-code": "0", "verdict": "consistent", "results": "out"}
    assert "outcome: no regression" in done.stdout
    assert "::error" not in done.stdout
    summary = (project.parent / "GITHUB_STEP_SUMMARY").read_text()
    assert "## private-sum: Consistent" in summary
    assert "Leakage against the baseline: no regression" in summary
    assert len(summary.encode()) < 100_000
    suite = ElementTree.parse(project / "out" / "junit.xml").getroot()[0]
    assert (suite.get("tests"), suite.get("failures"), suite.get("errors")) == ("1", "0", "0")
    log = json.loads((project / "out" / "report.sarif").read_text())
    assert log["version"] == "2.1.0"
    assert log["runs"][0]["results"] == []


def test_halved_noise_is_a_regression_although_the_run_alone_looks_well(project):
    replace(project / "training.py", *HALVED)
    done = action(project)
    assert done.returncode == 1, done.stdout + done.stderr
    assert outputs(project)["verdict"] == "consistent"
    assert "REGRESSED" in done.stdout
    assert "::error file=reports/baseline.json,line=1,title=membership.direct" in done.stdout
    assert "**regressed**" in (project.parent / "GITHUB_STEP_SUMMARY").read_text()


def test_an_underpowered_audit_fails_where_the_policy_says_so(project):
    audit = project / "audits" / "private.toml"
    replace(audit, "guesses = 400", "guesses = 20")
    audit.write_text(audit.read_text() + '\n[policy]\nfail_on = ["violated", "underpowered"]\n')
    done = action(project, BASELINE="")
    assert done.returncode == 3, done.stdout + done.stderr
    assert outputs(project) == {"exit-code": "3", "verdict": "underpowered", "results": "out"}
    line = next(text for text in done.stdout.splitlines() if text.startswith("::warning file=audits/private.toml"))
    number = int(line.split("line=")[1].split(",")[0])
    assert audit.read_text().splitlines()[number - 1] == "[[attack]]"
    case = ElementTree.parse(project / "out" / "junit.xml").getroot()[0].find("testcase")
    assert case is not None
    assert case.find("skipped") is not None
    (result,) = json.loads((project / "out" / "report.sarif").read_text())["runs"][0]["results"]
    place = result["locations"][0]["physicalLocation"]
    assert place["artifactLocation"]["uri"] == "audits/private.toml"
    assert place["region"]["startLine"] == number


def test_a_broken_configuration_is_named(project):
    replace(project / "audits" / "private.toml", "guesses = 400", "gesses = 400")
    done = action(project)
    assert done.returncode == 2
    assert outputs(project) == {"exit-code": "2", "verdict": "none", "results": "out"}
    assert "gesses" in done.stderr
    assert "Traceback" not in done.stderr
    assert "::error file=audits/private.toml" in done.stdout


def test_overrides_reach_the_run(project):
    done = action(project, OVERRIDES="attack.0.guesses=8000 audit.seed=4", BASELINE="")
    assert done.returncode == 2
    assert "8000" in done.stderr


def test_the_projects_own_tests_pass_in_pytest(project):
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "check_leakage.py"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=project, env=environment(project))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "3 passed, 1 skipped" in done.stdout


@pytest.mark.slow
def test_the_gitlab_template_runs_the_same_gate(project):
    yaml = pytest.importorskip("yaml")
    job = yaml.safe_load((ROOT / "ci" / "gitlab.yml").read_text())[".leakgauge"]
    replace(project / "training.py", *HALVED)
    settings = {
        **job["variables"],
        "AUDIT": "audits/private.toml",
        "BASELINE": "reports/baseline.json",
        "DEVICE": "cpu",
    }
    script = "set -eo pipefail\n" + "\n".join(job["script"])
    settings = environment(project, GITHUB_ACTIONS="", **settings)
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, cwd=project, env=settings)
    assert done.returncode == 1, done.stdout + done.stderr
    assert (project / "leakgauge-run" / "junit.xml").is_file()


@pytest.mark.slow
def test_the_committed_baseline_is_what_its_command_makes(project):
    made = project / "again.json"
    command = ["baseline", "audits/private.toml", "--seeds", "5", "--out", str(made), "--device", "cpu", "--quiet"]
    done = subprocess.run(
        [sys.executable, "-m", "leakgauge", *command],
        capture_output=True,
        text=True,
        cwd=project,
        env=environment(project),
    )
    assert done.returncode == 0, done.stderr
    old, new = (json.loads(p.read_text()) for p in (project / "reports" / "baseline.json", made))
    for document in (old, new):
        document.pop("created")
        document.pop("commit", None)
        document.pop("leakgauge")
        for claim in document["claims"]:
            claim.pop("accountant")
    assert new == old
