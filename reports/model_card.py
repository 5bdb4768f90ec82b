"""A model card for Hugging Face: results as YAML that the Hub reads, and the short form of the report as text.

The card is meant to be published, so nothing is ever revealed in it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from ..audit.errors import PrerequisiteError
from .blocks import Code, Details, Figure, Gallery, Note, Paragraph, Report, Section
from .build import build_report
from .context import Context
from .markdown import to_markdown
from .model import Finding, Interval

if TYPE_CHECKING:
    from huggingface_hub import EvalResult

SECTIONS = ("verdict", "claim", "threat", "results", "utility", "controls", "limits")
LEFT_OUT = (Code, Details, Figure, Gallery)
TASK = "other"


def to_model_card(context: Context) -> str:
    """Front matter (`model-index` with one entry a figure), then verdict, claim, results, utility, controls, limits.

    Raises `PrerequisiteError` without `huggingface_hub`, whose types write the front matter.
    """
    public = dataclasses.replace(context, reveal=False)
    return f"---\n{_front_matter(public)}\n---\n\n{to_markdown(_short(build_report(public), public))}"


def _front_matter(context: Context) -> str:
    try:
        from huggingface_hub import ModelCardData
    except ImportError:
        raise PrerequisiteError(
            "--format model-card needs the package 'huggingface_hub': pip install huggingface_hub"
        ) from None
    tags = ["leakgauge", "privacy", "membership-inference"]
    tags += ["differential-privacy"] if context.audit.claims else []
    results = list(_results(context))
    data = ModelCardData(
        model_name=context.audit.name if results else None, tags=tags, eval_results=results or None, language=None
    )
    return str(data.to_yaml()).strip()


def _results(context: Context) -> Iterator[EvalResult]:
    audit = context.audit
    for claim in audit.claims:
        name = f"Claimed epsilon of {claim.trainer} (delta {claim.delta:g}, unit {claim.unit}, {claim.adjacency})"
        yield _result(context, "epsilon_claimed", name, claim.epsilon)
    for entry in audit.utility:
        if entry.test_accuracy is not None:
            yield from _measured(context, "accuracy", f"Test accuracy of {entry.trainer}", entry.test_accuracy)
    for finding in audit.findings:
        yield from _finding_results(context, finding)


def _finding_results(context: Context, finding: Finding) -> Iterator[EvalResult]:
    who = f"{finding.attack or finding.rule} on {context.trainer_name(finding.trainer)}"
    if finding.bound is not None:
        bound = finding.bound
        name = f"Certified epsilon by {who} (confidence {bound.confidence:g}, delta {bound.delta:g})"
        yield _result(context, "epsilon_lower_bound", name, bound.epsilon)
    if finding.metrics is None:
        return
    if finding.metrics.auc is not None:
        yield from _measured(context, "membership_auc", f"AUC of {who}", finding.metrics.auc)
    for rate, found in finding.metrics.tpr_at_fpr.items():
        yield from _measured(context, f"membership_tpr_at_fpr_{rate}", f"TPR at FPR {rate} of {who}", found)
    for name, measure in finding.metrics.measures.items():
        yield from _measured(context, name, f"{name} of {who}", measure)


def _measured(context: Context, kind: str, name: str, value: Interval) -> Iterator[EvalResult]:
    if value.value is not None:
        limits = {"low": value.low, "high": value.high} if value.low is not None else None
        yield _result(context, kind, name, value.value, limits)


def _result(context: Context, kind: str, name: str, value: float, limits: dict[str, Any] | None = None) -> EvalResult:
    from huggingface_hub import EvalResult

    data = context.audit.system.data
    return EvalResult(
        task_type=TASK,
        dataset_type=data.name if data else "unknown",
        dataset_name=data.name if data else "unknown",
        metric_type=kind,
        metric_value=float(f"{value:.6g}"),
        metric_name=name,
        metric_args={key: float(f"{limit:.6g}") for key, limit in limits.items()} if limits else None,
    )


def _short(report: Report, context: Context) -> Report:
    sections = [
        Section(s.id, s.title, tuple(block for block in s.blocks if not isinstance(block, LEFT_OUT)))
        for s in report.sections
        if s.id in SECTIONS
    ]
    digest = context.audit.provenance.config_digest
    origin = Section(
        "origin",
        context.texts("card.title"),
        (Paragraph(context.texts("card.origin", digest=digest)), Note(context.texts("map.disclaimer"))),
    )
    return dataclasses.replace(report, sections=(*sections, origin))
