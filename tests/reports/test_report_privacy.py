"""Nothing personal in what is meant to be shared: a real audit of records with known ids, strings and values."""

from __future__ import annotations

import json
import stat
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from leakgauge.audit.conduct import conduct
from leakgauge.audit.errors import StaleArtifactError
from leakgauge.audit.report_command import ReportRequest, report_runs
from leakgauge.reports.masking import pseudonym
from leakgauge.reports.private import CONTENT_KEYS, read_salt, restore, withhold
from leakgauge.reports.render import FORMATS, render

ROWS = 240
CANARIES = tuple(f"zq{index:03d}-Mustermann" for index in range(ROWS))
AUDIT = """
[audit]
name = "people"
seed = 3
delta = 1e-3
[data]
path = "{path}"
target = "label"
[design]
audit_records = 160
[[trainer]]
name = "sgd"
epochs = 2
hidden = [8]
[[attack]]
name = "lira"
shadows = 2
guesses = 40
"""


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, pd.DataFrame]:
    """A run on records with a name each and values that occur nowhere else."""
    folder = tmp_path_factory.mktemp("people")
    draw = np.random.default_rng(8)
    frame = pd.DataFrame(
        {
            "income": 20_000 + draw.permutation(ROWS) * 137 + 0.4375,
            "name": CANARIES,
            "height": 1.5 + draw.permutation(ROWS) / 1024,
            "label": draw.integers(0, 2, ROWS),
        }
    )
    data = folder / "people.csv"
    frame.to_csv(data, index=False)
    config = folder / "audit.toml"
    config.write_text(AUDIT.format(path=data))
    assert conduct(config, folder / "out", [], device="cpu", quiet=True, command="leakgauge run audit.toml") == 0
    return folder / "out", frame


def secrets_of(run: Path, frame: pd.DataFrame) -> list[str]:
    """Every record id of the run, every name, and every value that is no round number."""
    ids = pd.read_parquet(run / "membership.parquet")["record"].astype(str).tolist()
    values = [repr(float(v)) for column in ("income", "height") for v in frame[column]]
    return [*ids, *frame["name"], *(v for v in values if len(v) >= 7)]


def test_no_output_of_a_real_audit_holds_a_record(people: tuple[Path, pd.DataFrame]) -> None:
    run, frame = people
    secrets = secrets_of(run, frame)
    assert len(secrets) > 3 * 150
    written = report_runs(ReportRequest([run], tuple(FORMATS)))
    assert {path.name for path in written} >= {"report.html", "report.md", "junit.xml", "report.sarif", "model-card.md"}
    for path in [*written, run / "audit.json"]:
        text = path.read_text(encoding="utf-8")
        # Ids may be short numbers, which occur in any text; those count as found only where they stand as strings.
        found = [s for s in secrets if (f'"{s}"' if len(s) < 7 else s) in text]
        assert not found, (path.name, found[:3])


def planted(builder: Any) -> tuple[dict[str, Any], list[str]]:
    """An audit with secrets wherever a finding may hold any, and the secrets."""
    audit = builder.sample(more=True)
    secrets = ["jane.doe@example.org", "secret phrase", "Jane Doe of Springfield"]
    secrets += [builder.SECRET_TEXT, builder.SECRET_NAME, builder.SECRET_RECORD]
    for index, finding in enumerate(audit["findings"]):
        own = f"hidden-{index}-werner"
        secrets.append(own)
        finding["evidence"] = {
            **finding["evidence"],
            "records": [*finding["evidence"].get("records", []), f"{own}-id"],
            "nested": {"text": own, "deep": [{"anything": own}]},
            "free": own,
            "prompt": own,
            "user_ids": own,
        }
    return audit, secrets


@pytest.mark.parametrize("name", list(FORMATS))
def test_planted_secrets_reach_no_shareable_format(builder: Any, tmp_path: Path, name: str) -> None:
    audit, secrets = planted(builder)
    public = withhold(audit, tmp_path / "private.json")
    text = render(public, tmp_path, (name,))[0].read_text(encoding="utf-8")
    assert not [secret for secret in secrets if secret in text]
    assert "data:image" not in text
    assert "CONTAINS PERSONAL DATA" not in text


def test_revealing_shows_everything_and_stamps_the_file(builder: Any, tmp_path: Path) -> None:
    audit, secrets = planted(builder)
    public = withhold(audit, tmp_path / "private.json")
    paths = render(public, tmp_path, ("html", "md"), reveal=True)
    for path in paths:
        text = path.read_text(encoding="utf-8").replace("&#34;", '"')
        assert not [secret for secret in secrets if secret not in text], path.name
        assert "CONTAINS PERSONAL DATA" in text
    assert paths[0].read_text().count("data:image/png") == 12
    card = render(public, tmp_path, ("model-card",), reveal=True)[0].read_text()
    assert not [secret for secret in secrets if secret in card]


def test_examples_leave_the_document_and_come_back(builder: Any, tmp_path: Path) -> None:
    audit = builder.sample(more=True)
    kept = tmp_path / "private.json"
    public = withhold(audit, kept)
    held = [example for finding in public["findings"] for example in finding.get("examples", [])]
    assert len(held) == 8
    assert not any(key in example for example in held for key in CONTENT_KEYS)
    assert builder.SECRET_TEXT not in json.dumps([finding.get("examples") for finding in public["findings"]])
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    assert restore(public, kept) == audit
    assert restore(public, tmp_path / "absent.json") == public


def test_a_private_file_of_another_run_is_refused(builder: Any, tmp_path: Path) -> None:
    kept = tmp_path / "private.json"
    public = withhold(builder.sample(more=True), kept)
    public["findings"] = public["findings"][:2]
    with pytest.raises(StaleArtifactError, match="does not belong"):
        restore(public, kept)
    kept.write_text("{")
    with pytest.raises(StaleArtifactError, match=r"private\.json"):
        restore(public, kept)


def test_record_ids_are_hashed_with_the_runs_own_salt(builder: Any, tmp_path: Path) -> None:
    audit = builder.sample(more=True)
    texts = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        public = withhold(audit, tmp_path / name / "private.json")
        texts.append(render(public, tmp_path / name, ("md",))[0].read_text())
    salts = [read_salt(tmp_path / name / "private.json") for name in ("a", "b")]
    assert salts[0] != salts[1]
    for text, salt in zip(texts, salts, strict=True):
        assert salt
        assert pseudonym(builder.SECRET_RECORD, salt) in text
        assert salt not in text
    # A second run of the same folder keeps its salt, so that hashes stay comparable.
    withhold(audit, tmp_path / "a" / "private.json")
    assert read_salt(tmp_path / "a" / "private.json") == salts[0]
