"""JUnit XML: one test case a finding, which every CI system reads.

A violation or a limit exceeded is a failure, a failed step an error. An underpowered finding is *skipped*, with its
reason, because it tested nothing; so is a model without a claim. Only `consistent` passes.
"""

from __future__ import annotations

import re
from xml.etree import ElementTree

from .context import Context
from .model import Finding
from .numbers import claimed, number, shown
from .sections.verdict import why

OUTCOMES = {
    "violated": "failure",
    "exceeds-policy": "failure",
    "error": "error",
    "underpowered": "skipped",
    "no-claim": "skipped",
}
NOT_XML = re.compile(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def to_junit(context: Context) -> str:
    """One suite named after the audit. Times are not given a case: findings share the models they come from."""
    audit = context.audit
    outcomes = [OUTCOMES.get(finding.verdict) for finding in audit.findings]
    totals = {
        "tests": str(len(outcomes)),
        "failures": str(outcomes.count("failure")),
        "errors": str(outcomes.count("error")),
        "skipped": str(outcomes.count("skipped")),
        "time": f"{sum(audit.timings.values()):.3f}",
    }
    # The common XSDs know `skipped` on a suite only.
    outer = {key: value for key, value in totals.items() if key != "skipped"}
    root = ElementTree.Element("testsuites", {"name": "leakgauge", **outer})
    suite = ElementTree.SubElement(root, "testsuite", {"name": clean(audit.name), **totals})
    if audit.provenance.started:
        suite.set("timestamp", clean(audit.provenance.started))
    properties = ElementTree.SubElement(suite, "properties")
    for name, value in (("verdict", audit.verdict), ("config_digest", audit.provenance.config_digest)):
        ElementTree.SubElement(properties, "property", {"name": name, "value": clean(value)})
    for finding in audit.findings:
        _case(suite, context, finding)
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode", xml_declaration=False).join(
        ('<?xml version="1.0" encoding="UTF-8"?>\n', "\n")
    )


def clean(text: str) -> str:
    """`text` without the control characters that XML cannot hold."""
    return NOT_XML.sub("\ufffd", text)


def _case(suite: ElementTree.Element, context: Context, finding: Finding) -> None:
    trainer = finding.trainer or "audit"
    name = f"{finding.rule} [{trainer}, {finding.attack}]" if finding.attack else f"{finding.rule} [{trainer}]"
    classname = f"{context.audit.name}.{trainer}"
    case = ElementTree.SubElement(suite, "testcase", {"classname": clean(classname), "name": clean(name)})
    outcome = OUTCOMES.get(finding.verdict)
    if outcome:
        message = clean(f"{finding.verdict}: {why(context, finding)}")
        child = ElementTree.SubElement(case, outcome, {"message": message})
        if outcome != "skipped":
            child.set("type", finding.verdict)
            child.text = clean(_figures(finding))
    ElementTree.SubElement(case, "system-out").text = clean(_figures(finding))


def _figures(finding: Finding) -> str:
    lines = [f"verdict: {finding.verdict}"]
    if finding.claim:
        lines.append(f"claimed: epsilon {claimed(finding.claim.epsilon)} at delta {number(finding.claim.delta)}")
    if finding.bound:
        bound = finding.bound
        lines.append(f"certified: epsilon {shown(bound.epsilon)} at confidence {bound.confidence:g} ({bound.method})")
        lines.append(f"ceiling: epsilon {shown(bound.ceiling)}")
    if finding.judged:
        lines.append(f"judged: epsilon {shown(finding.judged.epsilon)} at confidence {finding.judged.confidence:g}")
    return "\n".join(lines)
