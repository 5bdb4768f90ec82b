from __future__ import annotations

from pathlib import Path
from typing import Any

from leakgauge.reports.render import render


def table(audit: dict[str, Any], out: Path) -> list[str]:
    text = render(audit, out, ("md",))[0].read_text(encoding="utf-8")
    _, found, rest = text.partition("### By attacker")
    return [line for line in rest.split("###")[0].splitlines() if line.startswith("| ")] if found else []


def test_claim_bound_ceiling_and_utility_stand_in_one_row_an_attacker(builder: Any, tmp_path: Path) -> None:
    audit = builder.sample()
    bounded = [f for f in audit["findings"] if f["bound"]][:2]
    for finding, who in zip(bounded, ("a nosy server", "an outsider"), strict=True):
        finding["rule"], finding["threat"] = "client.client-canary", {"attacker": who}
    rows = table(audit, tmp_path)
    assert len(rows) == 4  # head, rule, two attackers
    accuracy = {u["trainer"]: u["test_accuracy"]["value"] for u in audit["utility"]}
    for row, finding, who in zip(rows[2:], bounded, ("a nosy server", "an outsider"), strict=True):
        cells = [cell.strip() for cell in row.strip("|").split("|")]
        assert cells[1] == who
        # Print never certifies more than the audit did, and rounds by less than one in the fourth digit.
        assert 0 <= finding["bound"]["epsilon"] - float(cells[3]) < 1e-2
        assert cells[5].startswith(f"{accuracy[finding['trainer']]:.3g}")


def test_one_attacker_needs_no_table(builder: Any, tmp_path: Path) -> None:
    audit = builder.sample()
    finding = next(f for f in audit["findings"] if f["bound"])
    finding["rule"], finding["threat"] = "client.client-canary", {"attacker": "alone"}
    assert not table(audit, tmp_path)
