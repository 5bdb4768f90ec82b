"""What CI systems read: GitHub's summary and annotations, and the shapes that JUnit and SARIF readers insist on."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import jsonschema
import pytest

from leakgauge.audit.cli import report
from leakgauge.reports.config_lines import config_line
from leakgauge.reports.github import LARGEST
from leakgauge.reports.model import Finding
from leakgauge.reports.render import render, render_annotations

COMMAND = re.compile(r"^::(error|warning) file=[^,:]+,line=\d+,title=[^,:]+::[^\n]+$")


def test_summary_has_a_row_for_every_finding(audit: dict[str, Any], tmp_path: Path) -> None:
    text = render(audit, tmp_path, ("github",))[0].read_text()
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert len(rows) == len(audit["findings"]) + 2
    for finding in audit["findings"]:
        assert any(finding["rule"] in row for row in rows)
    assert len({len(re.findall(r"(?<!\\)\|", row)) for row in rows}) == 1


def test_summary_stays_below_100_kilobytes(audit: dict[str, Any], tmp_path: Path) -> None:
    audit["findings"] *= 150
    text = render(audit, tmp_path, ("github",))[0].read_bytes()
    assert len(text) < LARGEST == 100_000
    assert b"more findings are in `audit.json`" in text
    first = next(line for line in text.decode().splitlines()[6:] if line.startswith("|"))
    assert "iolat" in first
    audit["name"] = "é" * 200_000
    assert len(render(audit, tmp_path, ("github",))[0].read_bytes()) < LARGEST


def test_annotations_stand_on_the_audit_file(audit: dict[str, Any], builder: Any, tmp_path: Path) -> None:
    lines = render_annotations(audit, tmp_path)
    acted = [f for f in audit["findings"] if f["verdict"] not in {"consistent", "no-claim"}]
    assert len(lines) == len(acted)
    assert all(COMMAND.match(line) for line in lines), lines
    assert "::error file=benchmarks/suites/quickstart.toml,line=" in lines[0]
    assert {line.split(" ")[0] for line in lines} == {"::error", "::warning"}


def test_the_command_prints_annotations_and_fills_the_summary(
    audit: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "audit.json").write_text(json.dumps(audit))
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "job"))
    (tmp_path / "job").write_text("before\n")
    report([tmp_path], "junit,github")
    assert "::error file=" in capsys.readouterr().out
    assert (tmp_path / "job").read_text() == "before\n" + (tmp_path / "summary.md").read_text() + "\n"


YAML = """audit:
  name: x
trainer:
  - name: sgd
  - {id: private, name: dp-sgd}
attack:
  - name: lira
    id: strong
  - name: lira
"""


@pytest.mark.parametrize(
    ("config", "trainer", "attack", "line"),
    [
        (YAML, "sgd", "strong", 7),
        (YAML, "sgd", "lira", 9),
        (YAML, "private", None, 5),
        (YAML, "dp-sgd", None, 1),
        ('[[attack]]\nid = "a"\nname = "lira"\n[[attack]]\nname = "lira"', None, "lira", 4),
        ('[trainer]\nname = "sgd"', "sgd", None, 1),
        ("a: [", "sgd", None, 1),
    ],
)
def test_lines_are_found_by_identity(config: str, trainer: str | None, attack: str | None, line: int) -> None:
    finding = Finding(rule="membership.lira", verdict="violated", trainer=trainer, attack=attack)
    assert config_line(config, finding) == line


# The elements and attributes that the widely used junit-10.xsd of Jenkins' xUnit plug-in allows.
JUNIT = {
    "testsuites": ({"name", "time", "tests", "failures", "errors"}, {"testsuite"}),
    "testsuite": (
        {"name", "tests", "failures", "errors", "skipped", "time", "timestamp", "hostname", "id", "package"},
        {"properties", "testcase", "system-out", "system-err"},
    ),
    "properties": (set(), {"property"}),
    "property": ({"name", "value"}, set()),
    "testcase": ({"name", "time", "classname"}, {"skipped", "error", "failure", "system-out", "system-err"}),
    "failure": ({"type", "message"}, set()),
    "error": ({"type", "message"}, set()),
    "skipped": ({"type", "message"}, set()),
    "system-out": (set(), set()),
}
REQUIRED = {"testsuite": {"name", "tests", "failures", "errors"}, "testcase": {"name"}, "property": {"name", "value"}}


def test_junit_uses_only_what_readers_know(audit: dict[str, Any], tmp_path: Path) -> None:
    root = ElementTree.parse(render(audit, tmp_path, ("junit",))[0]).getroot()
    assert root.tag == "testsuites"
    for element in root.iter():
        attributes, children = JUNIT[element.tag]
        assert set(element.attrib) <= attributes, element.tag
        assert {child.tag for child in element} <= children, element.tag
        assert set(element.attrib) >= REQUIRED.get(element.tag, set())
    suite = root[0]
    assert re.fullmatch(r"\d+\.\d{3}", suite.attrib["time"])
    cases = suite.findall("testcase")
    for outcome, total in (("failure", "failures"), ("error", "errors"), ("skipped", "skipped")):
        assert sum(case.find(outcome) is not None for case in cases) == int(suite.attrib[total])
    assert len(cases) == int(suite.attrib["tests"]) == int(root.attrib["tests"])


def closed(required: list[str], **properties: Any) -> dict[str, Any]:
    return {"type": "object", "required": required, "properties": properties, "additionalProperties": False}


TEXT = {"type": "string", "minLength": 1}
BAG = {"type": "object"}
MESSAGE = closed(["text"], text=TEXT)
LEVEL = {"enum": ["none", "note", "warning", "error"]}
REGION = closed(["startLine"], startLine={"type": "integer", "minimum": 1})
ARTIFACT = closed(["uri"], uri=TEXT, uriBaseId=TEXT)
LOCATION = closed([], physicalLocation=closed(["artifactLocation"], artifactLocation=ARTIFACT, region=REGION))
RULE = closed(
    ["id"],
    id=TEXT,
    name=TEXT,
    shortDescription=MESSAGE,
    fullDescription=MESSAGE,
    defaultConfiguration=closed([], level=LEVEL),
    properties=BAG,
)
RESULT = closed(
    ["message"],
    ruleId=TEXT,
    ruleIndex={"type": "integer", "minimum": -1},
    level=LEVEL,
    message=MESSAGE,
    locations={"type": "array", "items": LOCATION},
    partialFingerprints={"type": "object", "additionalProperties": {"type": "string"}},
    properties=BAG,
)
DRIVER = closed(
    ["name"],
    name=TEXT,
    version=TEXT,
    informationUri={"type": "string", "pattern": "^https://"},
    rules={"type": "array", "uniqueItems": True, "items": RULE},
)
RUN = closed(
    ["tool"],
    tool=closed(["driver"], driver=DRIVER),
    invocations={"type": "array", "items": closed(["executionSuccessful"], executionSuccessful={"type": "boolean"})},
    results={"type": "array", "items": RESULT},
    columnKind={"enum": ["utf16CodeUnits", "unicodeCodePoints"]},
    properties=BAG,
)
SARIF = closed(
    ["version", "runs"],
    **{"$schema": {"type": "string"}, "version": {"const": "2.1.0"}, "runs": {"type": "array", "items": RUN}},
)
"""Of SARIF 2.1.0 (OASIS, 27 March 2020) the objects that we write, closed as the standard closes them."""


def test_sarif_keeps_the_standards_structure(audit: dict[str, Any], tmp_path: Path) -> None:
    log = json.loads(render(audit, tmp_path, ("sarif",))[0].read_text())
    jsonschema.validate(log, SARIF)
    (run,) = log["runs"]
    rules = run["tool"]["driver"]["rules"]
    assert len({rule["id"] for rule in rules}) == len(rules)
    for result in run["results"]:
        assert rules[result["ruleIndex"]]["id"] == result["ruleId"]
        uri = result["locations"][0]["physicalLocation"]["artifactLocation"]["uri"]
        assert " " not in uri
        assert "\\" not in uri
    lines = audit["provenance"]["config"].splitlines()
    for result, finding in zip(
        run["results"], [f for f in audit["findings"] if f["verdict"] not in {"consistent", "no-claim"}], strict=True
    ):
        line = result["locations"][0]["physicalLocation"]["region"]["startLine"]
        assert 1 <= line <= len(lines)
        if finding["attack"] in audit["provenance"]["config"]:
            assert finding["attack"] in "\n".join(lines[line - 1 : line + 2])
