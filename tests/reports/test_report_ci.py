from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from leakgauge.reports.model import Finding
from leakgauge.reports.render import render
from leakgauge.reports.sarif import config_line


def junit(audit: dict[str, Any], out: Path) -> ElementTree.Element:
    suite = ElementTree.parse(render(audit, out, ("junit",))[0]).getroot().find("testsuite")
    assert suite is not None
    return suite


def sarif(audit: dict[str, Any], out: Path) -> dict[str, Any]:
    log = json.loads(render(audit, out, ("sarif",))[0].read_text())
    assert log["version"] == "2.1.0"
    assert len(log["runs"]) == 1
    return log["runs"][0]


def test_junit_has_one_case_a_finding(audit: dict[str, Any], tmp_path: Path) -> None:
    suite = junit(audit, tmp_path)
    cases = suite.findall("testcase")
    assert len(cases) == len(audit["findings"]) == int(suite.get("tests", ""))
    expected = {"violated": "failure", "error": "error", "underpowered": "skipped", "no-claim": "skipped"}
    for case, finding in zip(cases, audit["findings"], strict=True):
        outcomes = [child.tag for child in case if child.tag != "system-out"]
        assert outcomes == ([expected[finding["verdict"]]] if finding["verdict"] in expected else [])
        assert finding["rule"] in case.get("name", "")
    assert [suite.get(key) for key in ("failures", "errors", "skipped")] == ["1", "1", "3"]
    skipped = [case.find("skipped") for case in cases]
    assert any(s is not None and "ceiling lies below the claim" in s.get("message", "") for s in skipped)
    assert len({(case.get("classname"), case.get("name")) for case in cases}) == len(cases)


def test_junit_survives_control_characters(audit: dict[str, Any], tmp_path: Path) -> None:
    audit["name"] = "a\x00b\x1b[31m<&>"
    audit["findings"][0]["reason"] = "bad \x07 ]]> bell"
    suite = junit(audit, tmp_path)
    assert suite.get("name") == "a\ufffdb\ufffd[31m<&>"


def test_sarif_is_structurally_sound(audit: dict[str, Any], tmp_path: Path) -> None:
    run = sarif(audit, tmp_path)
    rules = run["tool"]["driver"]["rules"]
    assert [rule["id"] for rule in rules] == list(dict.fromkeys(f["rule"] for f in audit["findings"]))
    acted = [f for f in audit["findings"] if f["verdict"] not in {"consistent", "no-claim"}]
    assert len(run["results"]) == len(acted)
    for result, finding in zip(run["results"], acted, strict=True):
        assert rules[result["ruleIndex"]]["id"] == result["ruleId"] == finding["rule"]
        assert result["level"] == ("warning" if finding["verdict"] == "underpowered" else "error")
        assert result["message"]["text"]
        assert len(result["partialFingerprints"]["leakgaugeFinding/v1"]) == 64
        place = result["locations"][0]["physicalLocation"]
        assert place["artifactLocation"] == {"uri": "benchmarks/suites/quickstart.toml", "uriBaseId": "%SRCROOT%"}
    prints = [result["partialFingerprints"]["leakgaugeFinding/v1"] for result in run["results"]]
    assert len(prints) == len(set(prints))
    assert run["properties"]["findings"]["consistent"] == 1
    assert run["invocations"] == [{"executionSuccessful": False}]


def test_sarif_fingerprints_outlive_figures(audit: dict[str, Any], tmp_path: Path) -> None:
    before = sarif(audit, tmp_path)["results"][0]
    audit["findings"][0]["bound"]["epsilon"] = 4.2
    audit["provenance"]["config"] = "\n\n" + audit["provenance"]["config"]
    after = sarif(audit, tmp_path)["results"][0]
    assert before["partialFingerprints"] == after["partialFingerprints"]
    assert before["message"] != after["message"]


@pytest.mark.parametrize(
    ("trainer", "attack", "text"),
    [
        ("dp-sgd", "rmia", 'name = "rmia"'),
        ("dp-sgd", "lira", 'name = "lira"'),
        ("dp-sgd", "unknown", 'id = "dp-sgd"'),
        ("sgd", None, 'id = "sgd"'),
    ],
)
def test_alerts_stand_on_the_table_that_asked(builder: Any, trainer: str, attack: str | None, text: str) -> None:
    finding = Finding(rule="membership.x", verdict="violated", trainer=trainer, attack=attack)
    lines = builder.CONFIG.splitlines()
    line = config_line(builder.CONFIG, finding)
    assert lines[line - 1].startswith("[[")
    assert lines[line] == text


def test_alerts_without_a_place_stand_on_the_first_line() -> None:
    finding = Finding(rule="static.sampler", verdict="violated")
    assert config_line(None, finding) == config_line("[audit]\nname = 'x'", finding) == 1


@pytest.mark.parametrize(
    ("command", "uri"),
    [
        ("leakgauge run './my audits/a.toml' --out x", "my%20audits/a.toml"),
        ("leakgauge run /abs/a.toml", "file:///abs/a.toml"),
        ("leakgauge run quickstart", "audit.toml"),
        ("unbalanced 'quote", "audit.toml"),
        (None, "audit.toml"),
    ],
)
def test_the_audit_file_is_found(audit: dict[str, Any], tmp_path: Path, command: str | None, uri: str) -> None:
    audit["provenance"]["command"] = command
    place = sarif(audit, tmp_path)["results"][0]["locations"][0]["physicalLocation"]
    assert place["artifactLocation"]["uri"] == uri
