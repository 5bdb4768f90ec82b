from __future__ import annotations

import json
import math
import re
from typing import Any, get_args

import jsonschema
import pytest

from leakgauge.audit.errors import ConfigError, StaleArtifactError
from leakgauge.audit.types import Bound, Selection, Validity, Verdict
from leakgauge.reports.migrate import migrate
from leakgauge.reports.model import VERDICTS, VERSION
from leakgauge.reports.model import Bound as BoundPart
from leakgauge.reports.schema import SCHEMA_PATH, json_schema, parse_audit, read_audit, schema_text, validate_audit


def test_the_sample_is_valid_by_our_types_and_by_the_committed_schema(audit: dict[str, Any]) -> None:
    validate_audit(audit)
    jsonschema.Draft202012Validator.check_schema(json_schema())
    jsonschema.Draft202012Validator(json.loads(SCHEMA_PATH.read_text())).validate(audit)


def test_the_committed_schema_is_current() -> None:
    assert SCHEMA_PATH.read_text(encoding="utf-8") == schema_text(), "run python -m leakgauge.reports.schema"


def test_verdicts_are_those_of_the_vocabulary_in_its_order() -> None:
    assert list(VERDICTS) == [str(verdict) for verdict in Verdict]
    assert set(get_args(BoundPart.model_fields["validity"].annotation)) == {str(v) for v in Validity}


def test_a_bound_as_the_statistics_write_it_is_valid() -> None:
    bound = Bound(1.0, 0.0, 0.95, "one-run", "approx-dp", Validity.FREQUENTIST, Selection(), {"canaries": 9}, 2.0, 0.05)
    BoundPart.model_validate_json(json.dumps(bound.to_json()))


MISTAKES: list[tuple[str, list[Any], Any]] = [
    ("findings[0].bound.epsilon", ["findings", 0, "bound", "epsilon"], "three"),
    ("findings[0].bound.epsilon", ["findings", 0, "bound", "epsilon"], -1.0),
    ("findings[0].bound.surprise", ["findings", 0, "bound", "surprise"], 1),
    ("findings[0].verdict", ["findings", 0, "verdict"], "fine"),
    ("design.confidence", ["design", "confidence"], 1.5),
    ("design.sampling", ["design", "sampling"], "dice"),
    ("design.audit_records", ["design", "audit_records"], True),
    ("access[0]", ["access", 0], "telepathy"),
    ("claims[0].delta", ["claims", 0, "delta"], "1e-5"),
    ("findings[0].metrics.roc", ["findings", 0, "metrics", "roc", "tpr"], [0.0]),
    ("utility[0].test_accuracy", ["utility", 0, "test_accuracy", "low"], 1.0),
    ("provenance.config_digest", ["provenance", "config_digest"], None),
]


@pytest.mark.parametrize(("path", "keys", "value"), MISTAKES)
def test_a_mistake_is_refused_with_its_path(audit: dict[str, Any], path: str, keys: list[Any], value: Any) -> None:
    place: Any = audit
    for key in keys[:-1]:
        place = place[key]
    place[keys[-1]] = value
    with pytest.raises(StaleArtifactError) as refused:
        validate_audit(audit)
    assert path in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_nan_is_refused_with_its_path(audit: dict[str, Any], value: float) -> None:
    audit["findings"][1]["evidence"]["deep"] = [{"score": value}]
    with pytest.raises(StaleArtifactError, match=r"findings\[1\]\.evidence\.deep\[0\]\.score"):
        validate_audit(audit)


def test_a_missing_part_is_refused_with_its_name(audit: dict[str, Any]) -> None:
    del audit["provenance"]
    with pytest.raises(StaleArtifactError, match=r"provenance: Field required"):
        validate_audit(audit)


def test_a_verdict_milder_than_the_worst_finding_is_refused(audit: dict[str, Any]) -> None:
    audit["verdict"] = "consistent"
    with pytest.raises(StaleArtifactError, match="worst finding is 'violated'"):
        validate_audit(audit)


def test_free_parts_are_free(audit: dict[str, Any]) -> None:
    audit["findings"][0]["evidence"]["anything"] = {"goes": [1, "two", None]}
    audit["system"]["trainers"][0]["spec"]["nested"] = {"goes": [1]}
    audit["claims"][0]["mechanism"]["family"] = "gaussian"
    validate_audit(audit)


def test_unknown_versions_and_other_files_are_refused(audit: dict[str, Any]) -> None:
    for check in (validate_audit, migrate):
        with pytest.raises(ConfigError, match="leakgauge/audit/99"):
            check({**audit, "schema": "leakgauge/audit/99"})
        for other in ({}, {"schema": 1}, {"schema": "sarif"}):
            with pytest.raises(StaleArtifactError, match="is this an audit"):
                check(other)
    with pytest.raises(StaleArtifactError, match="JSON object"):
        validate_audit([])  # type: ignore[arg-type]


def test_migration_walks_version_by_version_and_leaves_the_original_alone(audit: dict[str, Any]) -> None:
    old = {**audit, "schema": "leakgauge/audit/0a", "title": audit["name"]}
    del old["name"]

    def rename(document: dict[str, Any]) -> dict[str, Any]:
        document["name"] = document.pop("title")
        return {**document, "schema": "leakgauge/audit/0b"}

    steps = {"leakgauge/audit/0a": rename, "leakgauge/audit/0b": lambda document: {**document, "schema": VERSION}}
    assert migrate(old, steps) == audit
    assert "title" in old
    assert migrate(audit, steps) == audit
    with pytest.raises(StaleArtifactError, match="does not lead to"):
        migrate(old, {"leakgauge/audit/0a": lambda document: document})


def test_reading_a_file(tmp_path: Any, builder: Any) -> None:
    path = builder.write(tmp_path)
    assert parse_audit(read_audit(path)).name == "digits-quickstart"
    whole = path.read_text()
    path.write_text(whole[:-40])
    with pytest.raises(StaleArtifactError, match=rf"{re.escape(str(path))} is corrupt"):
        read_audit(path)
    path.write_text(whole.replace('"violated"', '"vioIated"', 1))
    with pytest.raises(StaleArtifactError, match=rf"{re.escape(str(path))}: verdict: .*'vioIated'"):
        read_audit(path)
    path.write_text(whole.replace("leakgauge/audit/1", "leakgauge/audit/99"))
    with pytest.raises(ConfigError, match=rf"{re.escape(str(path))}: schema: unknown version 'leakgauge/audit/99'"):
        read_audit(path)
    with pytest.raises(ConfigError, match="no audit document"):
        read_audit(tmp_path / "absent.json")


def test_schema_and_types_agree_on_shape(audit: dict[str, Any]) -> None:
    """Every mistake of shape that the types refuse, the schema refuses too (not the two cross-field rules)."""
    validator = jsonschema.Draft202012Validator(json_schema())
    for path, keys, value in MISTAKES:
        if path in {"findings[0].metrics.roc", "utility[0].test_accuracy"}:
            continue
        broken = json.loads(json.dumps(audit))
        place: Any = broken
        for key in keys[:-1]:
            place = place[key]
        place[keys[-1]] = value
        assert not validator.is_valid(broken), path
