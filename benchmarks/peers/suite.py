"""The suite `peers`: coverage of bounds on scores of known epsilon, then attacks on shared signals."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ...audit.seeds import Seeds
from . import tables
from .attacks import attack_rows, compare_families, our_attack_outcomes, peer_attack_table
from .coverage import CALLS, PEER_CALLS, Comparison, CoverageRow, compare, coverage_rows
from .exchange import Peers
from .fixtures import TRUTHS, CoverageFixture, coverage_fixture
from .orderings import orderings
from .ours import our_outcomes
from .planning import PlannedDesign, planned_design
from .signals import SignalsFixture, signals_fixture

ROOT_SEED = 20261121
LEFT_OUT = (
    "Privacy Meter is not on PyPI in its current form; privacy-estimates' joint-beta interval takes about 6 s a call "
    "and is Bayesian."
)


def run(out: Path) -> int:
    """Measures everything, prints the tables, writes peers.json, peers.md and signals.npz into the folder `out`.

    Returns 1 unless ours are valid, certify more than the best valid peer on the Laplace fixture, and attack at least
    as well as the best peer of each family within the interval, with the expected orderings. Without the peers'
    environment a `PrerequisiteError` says how to make it.
    """
    peers = Peers.find()
    out.mkdir(parents=True, exist_ok=True)
    seeds = Seeds(ROOT_SEED).at("peers")
    bounds, versions = run_coverage(peers, seeds=seeds)
    attacks = run_attacks(peers, out, seeds=seeds)
    document = {"schema": "leakgauge/peers/1", "versions": versions, "coverage": bounds, "attacks": attacks}
    (out / "peers.json").write_text(json.dumps(document, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    texts = [bounds["markdown"], attacks["markdown"], markdown_versions(versions)]
    (out / "peers.md").write_text("\n".join(texts), encoding="utf-8")
    print(f"written: {out / 'peers.json'}, {out / 'peers.md'}")
    return 0 if bounds["ahead"] and attacks["at_least_equal"] and attacks["orderings_hold"] else 1


def run_coverage(peers: Peers, *, seeds: Seeds, most: int | None = None) -> tuple[dict[str, Any], dict[str, str]]:
    """The coverage part of the document, and the peers' versions. No call gets more than `most` trials."""
    limits = {
        name: {call: min(info.trials_on(name), most or info.trials) for call, info in CALLS.items()} for name in TRUTHS
    }
    design = planned_design(seeds=seeds)
    trials = max(max(calls.values()) for calls in limits.values())
    fixtures = [coverage_fixture(name, trials, seeds=seeds.at("trials")) for name in TRUTHS]
    _step(f"bounds: peers, {len(fixtures[0].scores)} trials at most on each of {len(fixtures)} fixtures")
    outcomes, versions = peers.bounds(_request(design, limits), _arrays(fixtures))
    _step("bounds: ours on the same scores")
    for fixture in fixtures:
        outcomes += our_outcomes(fixture, design, limits[fixture.name], seeds=seeds.at("ours"))
    rows = coverage_rows(outcomes)
    result = compare(rows)
    cells = tables.coverage_cells(rows)
    tables.show("Lower bounds on epsilon at confidence 0.95, 1000 canaries", tables.COVERAGE_COLUMNS, cells)
    sentence = coverage_sentence(result)
    print(sentence)
    markdown = tables.markdown_table(tables.COVERAGE_COLUMNS, cells) + f"\n{sentence}\n\nLeft out: {LEFT_OUT}\n"
    document = {
        "design": asdict(design),
        "left_out": LEFT_OUT,
        "rows": [row.to_json() for row in rows],
        "ahead": result.ahead,
        "markdown": markdown,
    }
    return document, versions


def run_attacks(peers: Peers, out: Path, *, seeds: Seeds, fixture: SignalsFixture | None = None) -> dict[str, Any]:
    """The attack part of the document; writes `out`/signals.npz."""
    started = time.perf_counter()
    if fixture is None:
        _step("attacks: training targets and shadows")
        fixture = signals_fixture(seeds=seeds)
    fixture.write(out / "signals.npz")
    trained = time.perf_counter() - started
    _step(f"attacks: peers on {fixture.targets} targets")
    names = list(peer_attack_table())
    outcomes = peers.attacks({"targets": fixture.targets, "attacks": names}, fixture.arrays())
    _step("attacks: ours on the same signals")
    outcomes += our_attack_outcomes(fixture, seeds=seeds.at("attacks"))
    rows = attack_rows(outcomes, fixture.inside[: fixture.targets])
    comparisons, ordered = compare_families(rows), orderings(rows)
    cells, compared = tables.attack_cells(rows), tables.comparison_cells(comparisons)
    expected = tables.ordering_cells(ordered)
    tables.show(f"Attacks, mean over {fixture.targets} targets", tables.ATTACK_COLUMNS, cells)
    tables.show("Ours against the best peer of each family", tables.COMPARISON_COLUMNS, compared)
    tables.show("Orderings", tables.ORDERING_COLUMNS, expected)
    markdown = "\n".join(
        [
            tables.markdown_table(tables.ATTACK_COLUMNS, cells),
            tables.markdown_table(tables.COMPARISON_COLUMNS, compared),
            tables.markdown_table(tables.ORDERING_COLUMNS, expected),
        ]
    )
    return {
        "targets": fixture.targets,
        "shadows": len(fixture.probs) - fixture.targets,
        "train_accuracy": fixture.train_accuracy,
        "test_accuracy": fixture.test_accuracy,
        "training_seconds": trained,
        "rows": [row.to_json() for row in rows],
        "comparisons": [c.to_json() for c in comparisons],
        "orderings": [o.to_json() for o in ordered],
        "orderings_hold": bool(ordered) and all(o.holds for o in ordered),
        "at_least_equal": bool(comparisons) and all(c.at_least_equal for c in comparisons),
        "markdown": markdown,
    }


def coverage_sentence(result: Comparison) -> str:
    """What the coverage table comes to, in one sentence a comparison."""
    return (
        f"Nothing planned: {_named(result.uninformed)}, best valid peer {_named(result.peer)}. "
        f"Planned with the law known: {_named(result.ours)}, best valid peer {_named(result.informed_peer)}."
    )


def markdown_versions(versions: Mapping[str, str]) -> str:
    """The versions of the peers and of what they stand on."""
    return "Versions: " + ", ".join(f"{name} {version}" for name, version in versions.items()) + "\n"


def _named(row: CoverageRow | None) -> str:
    if row is None or math.isnan(row.mean):
        return "none"
    return f"{row.info.tool} {row.info.what} {row.mean:.3f} ({row.verdict})"


def _request(design: PlannedDesign, limits: Mapping[str, Mapping[str, int]]) -> dict[str, Any]:
    return {
        "design": {"threshold": design.threshold, "one_sided_threshold": design.one_sided_threshold},
        "calls": {name: {call: calls[call] for call in PEER_CALLS} for name, calls in limits.items()},
    }


def _arrays(fixtures: list[CoverageFixture]) -> dict[str, Any]:
    scores = {f"{f.name}_scores": f.scores for f in fixtures}
    return {**scores, **{f"{f.name}_inside": f.inside for f in fixtures}}


def _step(text: str) -> None:
    print(f"[{time.strftime('%H:%M:%S')}] {text}", flush=True)
