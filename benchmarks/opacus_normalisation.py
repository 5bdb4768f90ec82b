"""The normalisation leak of released Opacus: `python -m leakgauge.benchmarks.opacus_normalisation`.

`PrivacyEngine.make_private` divides by int(len(dataset) * sample_rate), a function of the private number of rows
(Opacus issues 571 and 819): with 100 rows the noise is divided by 10, with 99 by 9, and its scale alone says which it
was. No gradient is needed; all features here are zero.
"""

from __future__ import annotations

import json
import math
import sys
import warnings
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from ..audit.accounting import dp_sgd_claim
from ..audit.bounds import ClopperPearson
from ..audit.design import RunTrials
from ..audit.seeds import Seeds
from ..audit.types import Adjacency, Bound, Claim, Verdict
from ..audit.verdict import Circumstances, judge

if TYPE_CHECKING:
    from torch import nn

RUNS, ROWS, BATCH, STEPS, WIDTH = 60, 100, 10, 10, 1000
NOISES = (2.0, 4.0)
LEARNING_RATE, MAX_GRAD_NORM, DELTA = 1.0, 1.0, 1e-5
CONFIDENCE, VIOLATION_CONFIDENCE = 0.95, 0.999
Divisor = Literal["opacus", "fixed"]


@dataclass(frozen=True, slots=True)
class Audited:
    """One many-run audit: `RUNS` models on each side, bounds at both confidences, what the claim promises."""

    divisor: Divisor
    noise_multiplier: float
    claim: Claim
    reported: Bound
    judged: Bound
    verdict: Verdict

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "divisor": self.divisor,
            "noise_multiplier": self.noise_multiplier,
            "claim": self.claim.epsilon_at(DELTA),
            "delta": DELTA,
            "bound": self.reported.to_json(),
            "judged": self.judged.to_json(),
            "verdict": str(self.verdict),
        }


def run(out: Path) -> int:
    """Audit the installed Opacus and, as a control, the same with a fixed divisor; print, write `out`.

    A folder gets `opacus-normalisation.md` and `.json`. Returns 1 when the claim of the installed Opacus is violated.
    """
    audits = [audit("opacus", noise, seeds=Seeds(571).at(i), runs=RUNS) for i, noise in enumerate(NOISES)]
    audits += [audit("fixed", noise, seeds=Seeds(819).at(i), runs=RUNS) for i, noise in enumerate(NOISES)]
    text = report(audits)
    path = out / "opacus-normalisation.md" if not out.suffix else out
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    path.with_suffix(".json").write_text(json.dumps([a.to_json() for a in audits], indent=1) + "\n", encoding="utf-8")
    print(text, end="")
    return int(any(a.divisor == "opacus" and a.verdict is Verdict.VIOLATED for a in audits))


def audit(divisor: Divisor, noise_multiplier: float, *, seeds: Seeds, runs: int = RUNS) -> Audited:
    """`runs` models with the canary (`ROWS` rows) and as many without; the threshold is fixed by theory beforehand."""
    inside = np.repeat([True, False], runs)
    scores = np.array(
        [
            -math.log(final_weights(ROWS - (not there), divisor, noise_multiplier, seeds=seeds.at(i)).var())
            for i, there in enumerate(inside)
        ]
    )
    trials = RunTrials(scores, inside)
    counts = trials.count(-math.log(midpoint_variance(noise_multiplier)))
    claim = dp_sgd_claim(noise_multiplier=noise_multiplier, sample_rate=BATCH / ROWS, steps=STEPS, delta=DELTA)
    reported, judged = (
        ClopperPearson().certify(counts, delta=DELTA, confidence=c) for c in (CONFIDENCE, VIOLATION_CONFIDENCE)
    )
    verdict = judge(claim, judged, Circumstances(adjacency=Adjacency.ADD_REMOVE)).verdict
    return Audited(divisor, noise_multiplier, claim, reported, judged, verdict)


def midpoint_variance(noise_multiplier: float) -> float:
    """The geometric midpoint of the variances of the final weights when the noise of every step is divided by the
    expected batch of `ROWS` and of `ROWS - 1` rows: T (lr sigma C)^2 / (B B'), B = 10, B' = 9."""
    noise = LEARNING_RATE * noise_multiplier * MAX_GRAD_NORM
    return STEPS * noise**2 / (BATCH * int((ROWS - 1) / math.ceil((ROWS - 1) / BATCH)))


def final_weights(rows: int, divisor: Divisor, noise_multiplier: float, *, seeds: Seeds) -> NDArray[np.float64]:
    """One model trained by `PrivacyEngine.make_private` on `rows` zero rows: its final weights (WIDTH,).

    `divisor` "fixed" puts the public number in place of Opacus's after `make_private`, everything else the same.
    """
    import torch
    from opacus import PrivacyEngine
    from torch import nn
    from torch.utils.data import DataLoader, TensorDataset

    with seeds.torch_scope(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        base = nn.Linear(WIDTH, 1, bias=False)
        nn.init.zeros_(base.weight)
        data = TensorDataset(torch.zeros(rows, WIDTH), torch.zeros(rows, 1))
        module, optimizer, loader = PrivacyEngine().make_private(
            module=base,
            optimizer=torch.optim.SGD(base.parameters(), lr=LEARNING_RATE),
            data_loader=DataLoader(data, batch_size=BATCH),
            noise_multiplier=noise_multiplier,
            max_grad_norm=MAX_GRAD_NORM,
        )
        if divisor == "fixed":
            optimizer.expected_batch_size = BATCH
        _train(module, optimizer, loader)
    weights: NDArray[np.float64] = base.weight.detach().double().numpy().ravel()
    return weights


def report(audits: list[Audited]) -> str:
    """A table with versions, claim, bound and ceiling, and one sentence a finding."""
    lines = [
        f"Opacus {version('opacus')}, `PrivacyEngine.make_private`: {ROWS} rows against {ROWS - 1}, batch {BATCH}, "
        f"{STEPS} steps, {WIDTH} weights, zero features; {RUNS} models a side. Score: variance of the final weights, "
        f"threshold fixed at the geometric midpoint. clopper-pearson, delta {DELTA:g}, add-remove.",
        "",
        "| divisor | sigma | claim | certified at 0.95 | certified at 0.999 | ceiling at 0.999 | TP / FP | verdict |",
        "|---|---:|---:|---:|---:|---:|---|---|",
    ]
    for a in audits:
        counts = a.judged.counts
        name = "int(n q), as released" if a.divisor == "opacus" else "public constant (control)"
        lines.append(
            f"| {name} | {a.noise_multiplier:g} | {a.claim.epsilon_at(DELTA):.4f} | {a.reported.epsilon:.3f} "
            f"| {a.judged.epsilon:.3f} | {a.judged.ceiling:.3f} "
            f"| {counts['true_positives']:g} of {counts['members']:g} / {counts['false_positives']:g} of "
            f"{counts['nonmembers']:g} | {a.verdict} |"
        )
    found = any(a.divisor == "opacus" and a.verdict is Verdict.VIOLATED for a in audits)
    said = "violates its claim: the divisor tells the number of rows" if found else "was not caught"
    return "\n".join([*lines, "", f"Opacus {version('opacus')} {said} (issues 571, 819).", ""])


def _train(module: nn.Module, optimizer: Any, loader: Any) -> None:
    """One epoch, which is `STEPS` steps."""
    for features, labels in loader:
        optimizer.zero_grad()
        ((module(features) - labels) ** 2).mean().backward()
        optimizer.step()


if __name__ == "__main__":
    sys.exit(run(Path(sys.argv[1] if len(sys.argv) > 1 else "runs/opacus-normalisation")))
