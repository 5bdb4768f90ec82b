"""`leakgauge bench frameworks`: examine the DP aggregations of the installed frameworks and our own as controls."""

from __future__ import annotations

import importlib.util
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...audit.checks.record import CheckResult
from ...audit.seeds import Seeds
from ...trainers.flower import require_flower
from .examine import Outcome, examine_subject, probe_flower_buffers, probe_flower_clips, probe_subject
from .subjects import Subject, flower_subjects, own_subjects

ROOT = 20261121


@dataclass(frozen=True, slots=True)
class Results:
    """All outcomes, the probes by subject, and the frameworks that were left out with the reason."""

    outcomes: tuple[Outcome, ...]
    probes: dict[str, tuple[CheckResult, ...]]
    left_out: dict[str, str]

    @property
    def as_expected(self) -> bool:
        """Whether every known defect was certified and nothing else was flagged."""
        return all(o.as_expected for o in self.outcomes)

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "outcomes": [o.to_json() for o in self.outcomes],
            "probes": {name: [r.to_json() for r in results] for name, results in self.probes.items()},
            "left_out": dict(self.left_out),
            "as_expected": self.as_expected,
        }


def run(out: Path) -> int:
    """Examine everything that is installed; print a table, write `frameworks.md` and `.json` to the folder `out`.

    Returns 1 when a released package violates its claim, which flwr 1.41.0 does; 4 when the outcome is not the expected
    one (a known defect missed, a control flagged); else 0.
    """
    from .report import markdown

    results = measure()
    text = markdown(results)
    path = out / "frameworks.md" if not out.suffix else out
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    path.with_suffix(".json").write_text(json.dumps(results.to_json(), indent=1) + "\n", encoding="utf-8")
    print(text, end="")
    if not results.as_expected:
        return 4
    return int(any(o.subject.expected for o in results.outcomes))


def measure(*, runs: int | None = None) -> Results:
    """Everything; `runs` a side instead of each subject's own number."""
    seeds, left_out = Seeds(ROOT), dict(NOT_TESTED)
    chosen: list[Subject] = own_subjects()
    flower = importlib.util.find_spec("flwr") is not None
    if flower:
        require_flower()
        chosen = flower_subjects() + chosen
    else:
        left_out["flwr"] = "not installed: pip install 'leakgauge[flower]'"
    outcomes = []
    for i, subject in enumerate(chosen):
        print(f"{i + 1}/{len(chosen)} {subject.package}: {subject.name}, {', '.join(subject.scenes)}", file=sys.stderr)
        outcomes.append(examine_subject(subject, seeds=seeds.at(subject.name, *subject.scenes), runs=runs))
    probes = {}
    for subject in chosen:
        title = f"{subject.package}: {subject.name}"
        if title not in probes and subject.scenes != ("alone",):
            probes[title] = tuple(probe_subject(subject, seeds=seeds.at("probe", subject.name)))
    if flower:
        for name, result in probe_flower_clips(seeds=seeds.at("clips")).items():
            title = next(t for t in probes if t.endswith(name))
            probes[title] = (*probes[title], result)
        fixed = next(t for t in probes if t.endswith("server-side fixed clipping"))
        probes[fixed] = (*probes[fixed], probe_flower_buffers(seeds=seeds.at("buffers")))
    return Results(tuple(outcomes), probes, left_out)


NOT_TESTED = {
    "pfl 0.6": "needs dp-accounting below 0.6, which excludes ours",
    "NVFlare 2.9": "its DP is in client-side filters without an accountant; not installed here",
    "TensorFlow Federated": "needs TensorFlow and an older Python",
}
"""Named so that nobody takes silence for soundness."""


if __name__ == "__main__":
    sys.exit(run(Path(sys.argv[1] if len(sys.argv) > 1 else "runs/bench-frameworks")))
