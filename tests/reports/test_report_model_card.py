"""The model card as Hugging Face reads it, and figures as trackers get them."""

from __future__ import annotations

import sys
import types
from pathlib import Path
from typing import Any

import pytest

from leakgauge.audit.errors import ConfigError, PrerequisiteError
from leakgauge.reports.render import render
from leakgauge.reports.schema import parse_audit
from leakgauge.reports.trackers import TRACKERS, figures_of, settings_of, track


def test_the_card_is_read_back_by_the_hub_library(builder: Any, tmp_path: Path) -> None:
    from huggingface_hub import ModelCard

    audit = builder.sample(more=True)
    card = ModelCard(render(audit, tmp_path, ("model-card",))[0].read_text(encoding="utf-8"))
    assert "differential-privacy" in card.data.tags
    results = {result.metric_name: result for result in card.data.eval_results}
    for finding in audit["findings"]:
        if finding["bound"]:
            name = next(
                n for n in results if n.startswith(f"Certified epsilon by {finding['attack']} on {finding['trainer']} ")
            )
            assert results[name].metric_value == pytest.approx(finding["bound"]["epsilon"], rel=1e-5)
    accuracy = results["Test accuracy of dp-sgd"]
    assert accuracy.metric_type == "accuracy"
    assert accuracy.metric_args["low"] < accuracy.metric_value < accuracy.metric_args["high"]
    assert "TPR at FPR 0.001 of lira on sgd" not in results
    assert "# Privacy audit: digits-quickstart" in card.text
    assert "## 7. Limits" in card.text
    assert "does not" in card.text


def test_a_card_of_an_empty_audit_is_still_one(audit: dict[str, Any], tmp_path: Path) -> None:
    from huggingface_hub import ModelCard

    for key in ("findings", "claims", "utility"):
        audit[key] = []
    card = ModelCard(render(audit, tmp_path, ("model-card",))[0].read_text(encoding="utf-8"))
    assert card.data.tags == ["leakgauge", "privacy", "membership-inference"]
    assert not card.data.eval_results


class FakeTracker(types.ModuleType):
    """Stands for mlflow and trackio: keeps every call."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.calls: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = []

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return lambda *given, **named: self.calls.append((name, given, named))


@pytest.mark.parametrize(
    ("name", "order"),
    [
        ("mlflow", ["set_experiment", "start_run", "log_params", "log_metrics", "log_artifact", "end_run"]),
        ("trackio", ["init", "log", "finish"]),
    ],
)
def test_trackers_get_figures_and_shareable_files(
    builder: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, order: list[str]
) -> None:
    fake = FakeTracker(name)
    monkeypatch.setitem(sys.modules, name, fake)
    files = [tmp_path / "report.html", tmp_path / "audit.json", tmp_path / "private.json"]
    track(builder.sample(plain=True), name, files=files)
    assert [call[0] for call in fake.calls] == order
    logged = next(call[1][0] for call in fake.calls if call[0] in {"log_metrics", "log"})
    assert logged["sgd/lira/epsilon_certified"] == 0.7312
    assert logged["dp-sgd/epsilon_claimed"] == 2.9987
    assert all(isinstance(value, float) for value in logged.values())
    attached = [call[1][0] for call in fake.calls if call[0] == "log_artifact"]
    assert attached == [str(tmp_path / "report.html")][: len(attached)]


def test_figures_and_settings_hold_no_content(builder: Any) -> None:
    audit = parse_audit(builder.sample(more=True))
    text = str(figures_of(audit)) + str(settings_of(audit))
    assert builder.SECRET_TEXT not in text
    assert builder.SECRET_RECORD not in text
    assert figures_of(audit)["sgd/inversion/psnr"] == 21.34
    assert "sgd/inversion/ssim" not in figures_of(audit)


def test_a_tracker_that_is_not_installed_or_not_known_is_named(builder: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match=r"'mlfow'.*'mlflow'"):
        track(builder.sample(plain=True), "mlfow")
    for name in TRACKERS:
        monkeypatch.setitem(sys.modules, name, None)
        with pytest.raises(PrerequisiteError, match=f"pip install {name}"):
            track(builder.sample(plain=True), name)
