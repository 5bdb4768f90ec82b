"""A comparison for people: plain lines, Markdown for a step summary, annotations for GitHub."""

from __future__ import annotations

from collections.abc import Iterator

from .claims import ClaimChange
from .compare import Comparison, Row
from .github import workflow_command
from .measured import Measured

LOUD = {"regressed": "REGRESSED", "incomparable": "NOT COMPARABLE", "underpowered": "UNDERPOWERED"}
ANNOTATIONS = {"regressed": "error", "incomparable": "error", "underpowered": "warning"}


def text_lines(comparison: Comparison) -> Iterator[str]:
    """One line a finding with effect, interval and n; then claims, notes and the outcome."""
    yield (
        f"{comparison.name}: run of seed {comparison.run_seed} against {comparison.seeds} seeds; a run of the same "
        f"code fails with probability at most {1 - comparison.confidence:.3g}"
    )
    for row in comparison.rows:
        yield f"  {LOUD.get(row.status, row.status):14} {row.key}: {row_text(row)}"
    for claim in comparison.claims:
        yield f"  {LOUD.get(claim.status, claim.status):14} claim [{claim.trainer}]: {claim_text(claim)}"
    for sentence in comparison.policy:
        yield f"  {LOUD['underpowered']:14} {sentence}"
    for note in comparison.notes:
        yield f"  note: {note}"
    yield f"outcome: {outcome(comparison)}"


def markdown(comparison: Comparison) -> str:
    """The same as a Markdown section with a table."""
    lines = [
        f"## Leakage against the baseline: {outcome(comparison)}",
        "",
        f"`{comparison.name}`, run of seed {comparison.run_seed} against {comparison.seeds} seeds. A run of the same "
        f"code fails with probability at most {1 - comparison.confidence:.3g}.",
        "",
        "| outcome | finding | figure | baseline | range of a further seed | run | effect | p (Holm) | n | remark |",
        "|---|---|---|---:|---|---:|---|---:|---:|---|",
        *(_table_row(row) for row in comparison.rows),
    ]
    if comparison.claims:
        lines += ["", "| outcome | claim of | at delta | baseline | run | remark |", "|---|---|---:|---:|---:|---|"]
        lines += [
            f"| {_loud(c.status)} | `{_cell(c.trainer)}` | {_number(c.delta)} | {_number(c.before)} "
            f"| {_number(c.after)} | {_cell(c.reason)} |"
            for c in comparison.claims
        ]
    lines += ["", *(f"* {_cell(sentence)}" for sentence in (*comparison.policy, *comparison.notes))]
    return "\n".join(lines).rstrip() + "\n"


def annotate(comparison: Comparison, file: str) -> Iterator[str]:
    """GitHub workflow commands, one for each row or claim that somebody should act on; `file` is the baseline."""
    for row in comparison.rows:
        if row.status in ANNOTATIONS:
            yield workflow_command(ANNOTATIONS[row.status], file, 1, f"{row.key}: {row.status}", row_text(row))
    for claim in comparison.claims:
        if claim.status in ANNOTATIONS:
            title = f"claim of {claim.trainer}: {claim.status}"
            yield workflow_command(ANNOTATIONS[claim.status], file, 1, title, claim_text(claim))
    for sentence in comparison.policy:
        yield workflow_command("warning", file, 1, "underpowered", sentence)


def outcome(comparison: Comparison) -> str:
    """The comparison in a few words."""
    counts = [sum(item.status == comparison.status for item in part) for part in (comparison.rows, comparison.claims)]
    return {
        "regressed": f"regressed ({counts[0]} findings, {counts[1]} claims)",
        "incomparable": "not comparable with this baseline",
        "underpowered": "underpowered",
    }.get(comparison.status, "no regression")


def row_text(row: Row) -> str:
    """Figures, verdicts and reasons of one finding."""
    parts = [measured_text(row.measured)] if row.measured else [f"verdict {row.after or 'none'}"]
    return "; ".join([*parts, *row.reasons])


def measured_text(seen: Measured) -> str:
    """`auc 0.761 (baseline 0.693, a further seed 0.64 .. 0.74), effect +0.068 [0.02, 0.12], n 1200, 5 seeds, p 0.2`."""
    low, high = seen.effect_interval
    return (
        f"{seen.statistic} {seen.value:.4g} (baseline {seen.expected:.4g}, a further seed {seen.low:.4g} .. "
        f"{seen.high:.4g}), effect {seen.effect:+.4f} [{low:+.4f}, {high:+.4f}], n {seen.n}, {seen.seeds} seeds, "
        f"p {seen.adjusted:.2g}"
    )


def claim_text(claim: ClaimChange) -> str:
    """Both epsilons and the reason."""
    if claim.after is None:
        return f"epsilon {_number(claim.before)} at delta {_number(claim.delta)} in the baseline; {claim.reason}"
    before = "none" if claim.before is None else _number(claim.before)
    return (
        f"epsilon {before} in the baseline, {_number(claim.after)} now, at delta {_number(claim.delta)}; {claim.reason}"
    )


def _table_row(row: Row) -> str:
    seen = row.measured
    cells = [_loud(row.status), f"`{_cell(str(row.key))}`"]
    if seen is None:
        cells += ["verdict", row.before or "none", "", row.after or "none", "", "", ""]
    else:
        low, high = seen.effect_interval
        cells += [
            seen.statistic,
            f"{seen.expected:.4g}",
            f"{seen.low:.4g} .. {seen.high:.4g}",
            f"{seen.value:.4g}",
            f"{seen.effect:+.4f} [{low:+.4f}, {high:+.4f}]",
            f"{seen.adjusted:.2g}",
            f"{seen.n}, {seen.seeds} seeds",
        ]
    return "| " + " | ".join([*cells, _cell("; ".join(row.reasons))]) + " |"


def _loud(status: str) -> str:
    return f"**{LOUD[status].lower()}**" if status in LOUD else status


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())


def _number(value: float | None) -> str:
    return "none" if value is None else f"{value:.4g}"
