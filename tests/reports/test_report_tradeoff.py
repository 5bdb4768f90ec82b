from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from leakgauge.audit.communication import communication
from leakgauge.audit.errors import StaleArtifactError
from leakgauge.reports.render import render
from leakgauge.reports.schema import validate_audit
from leakgauge.reports.sections.tradeoff import size

SENT = {
    "trainer": "dp-sgd",
    "bits_per_parameter": 1.0,
    "entropy_bits_per_parameter": 0.87,
    "upload_bytes_per_client_round": 10_560.0,
    "upload_bytes": 1_584_000.0,
    "download_bytes": 50_688_000.0,
    "released_bytes": 10_720.0,
}


def section(audit: dict[str, Any], out: Path, language: str = "en") -> list[str]:
    text = render(audit, out, ("md",), language=language)[0].read_text(encoding="utf-8")
    title = {"en": "Leakage, utility and communication", "zh": "泄露、效用与通信"}[language]
    _, found, rest = text.partition(f". {title}\n")
    return rest.split("\n## ")[0].splitlines() if found else []


@pytest.mark.parametrize("language", ["en", "zh"])
def test_one_row_a_model_with_what_leaks_works_and_is_sent(builder: Any, tmp_path: Path, language: str) -> None:
    audit = builder.sample(plain=True)
    audit["communication"] = [SENT]
    rows = [line for line in section(audit, tmp_path, language) if line.startswith("| ")]
    assert len(rows) == 8  # two tables of head, rule and two models
    cells: dict[str, list[str]] = {}
    for row in rows[2:4] + rows[6:]:
        name, *rest = [c.strip() for c in row.strip("|").split("|")]
        cells.setdefault(name, [name]).extend(rest)
    assert list(cells) == [trainer["id"] for trainer in audit["system"]["trainers"]]
    private, plain = cells["dp-sgd"], cells["sgd"]
    # Both attacks play on both models; the first one speaks.
    found = next(f for f in audit["findings"] if (f["trainer"], f["attack"]) == ("dp-sgd", "lira"))["metrics"]
    rate = found["tpr_at_fpr"]["0.01"]["value"]
    assert "lira" in rows[0]
    assert private[1].startswith("0.698")
    assert private[2].startswith(f"{found['auc']['value']:.3g}")
    assert float(private[3].split()[0]) == pytest.approx(rate, rel=0.01)
    # A claim is rounded up, never down.
    assert float(private[5]) >= next(c for c in audit["claims"] if c["trainer"] == "dp-sgd")["tested"]["epsilon"]
    assert private[6:] == ["1 (0.87)", "10.6 kB", "1.58 MB", "10.7 kB"]
    assert plain[5:] == ["–"] * 5


def test_models_are_compared_on_the_attack_that_most_of_them_share(builder: Any, tmp_path: Path) -> None:
    audit = builder.sample(plain=True)
    own = next(f for f in audit["findings"] if (f["trainer"], f["attack"]) == ("dp-sgd", "lira"))
    own["attack"] = "rmia"
    # A white-box attack on one model alone is stronger than any on the other: it must not stand beside it.
    strong = {**own["metrics"], "auc": {"value": 0.99, "low": 0.98, "high": 1.0}}
    audit["findings"].append({**own, "attack": "gradient-canary", "metrics": strong})
    text = "\n".join(section(audit, tmp_path))
    assert "AUC of rmia" in text
    assert "0.99 " not in text
    audit["findings"] = [f for f in audit["findings"] if f is not own]
    text = "\n".join(section(audit, tmp_path))
    assert "AUC of the strongest attack" in text
    assert "No attack plays on two" in text
    assert "0.99 " in text


def test_it_appears_with_two_models_and_not_with_one(builder: Any, tmp_path: Path) -> None:
    audit = builder.sample(plain=True)
    rows = [line for line in section(audit, tmp_path) if line.startswith("| ")]
    assert len(rows) == 4  # Nothing is known to be sent: one table.
    audit["utility"] = audit["utility"][:1]
    assert not section(audit, tmp_path)


def test_the_figure_names_every_model_and_its_bytes(builder: Any, tmp_path: Path) -> None:
    audit = builder.sample()
    audit["communication"] = [SENT]
    page = render(audit, tmp_path, ("html",))[0].read_text(encoding="utf-8")
    start = page.index('id="tradeoff"')
    chart = page[start : page.index("</svg>", start)]
    assert "1.58 MB" in chart
    for trainer in audit["system"]["trainers"]:
        assert f">{trainer['id']}<" in chart
    assert chart.count('role="img"') == 1


def test_negative_sizes_are_refused(builder: Any) -> None:
    audit = builder.sample()
    audit["communication"] = [{**SENT, "upload_bytes": -1.0}]
    with pytest.raises(StaleArtifactError, match="upload_bytes"):
        validate_audit(audit)


@pytest.mark.parametrize(
    ("count", "text"),
    [(None, "–"), (0.0, "0 B"), (999.0, "999 B"), (999.6, "1 kB"), (10_560.0, "10.6 kB"), (5e13, "50 TB")],
)
def test_sizes_in_words(count: float | None, text: str) -> None:
    assert size(count) == text


def test_figures_come_from_the_training_record_and_the_model_file(tmp_path: Path) -> None:
    (tmp_path / "mask.safetensors").write_bytes(b"x" * 40)
    (tmp_path / "updates.npy").write_bytes(b"x" * 1000)
    record = {"metrics": {"upload_bytes": 8.0, "bits_per_parameter": 1, "train_loss": 0.2}}
    found = communication("fedpm", record, tmp_path)
    assert found == {"trainer": "fedpm", "bits_per_parameter": 1.0, "upload_bytes": 8.0, "released_bytes": 40.0}
    assert communication("other", {}, tmp_path / "absent") == {}
