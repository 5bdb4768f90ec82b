"""Static checks: a record without fault passes all, each single fault fails its own rule, silence passes none."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from typing import Any

import pytest

from leakgauge.audit.accounting import dp_sgd_claim
from leakgauge.audit.checks import (
    STATIC_RULES,
    Clipping,
    Divisor,
    ParameterRecord,
    Sampler,
    TrainingRecord,
    failures,
    run_static_checks,
)
from leakgauge.audit.checks.module import check_torch_module, layer_names, mixes_examples
from leakgauge.audit.seeds import Seeds
from leakgauge.audit.types import Adjacency, Claim

CLAIM = dp_sgd_claim(noise_multiplier=1.0, sample_rate=0.1, steps=100, delta=1e-5)
GOOD = TrainingRecord(
    claim=CLAIM,
    accountant=CLAIM.accountant,
    accountant_adjacency=Adjacency.ADD_REMOVE,
    sampler_accounted=Sampler.POISSON,
    sampler_real=Sampler.POISSON,
    sample_rate_accounted=0.1,
    sample_rate_real=0.1,
    steps_accounted=100,
    steps_real=100,
    steps_with_noise=100,
    noise_multiplier_accounted=1.0,
    parameters=(ParameterRecord("weight", 1.0), ParameterRecord("bias", 1.0)),
    clipping=Clipping.UNIT,
    clip_adaptive=False,
    divisor=Divisor.PUBLIC,
    weights_bounded=True,
    noise_seeds=tuple(range(100)),
    noise_seed_public=False,
    units_per_record=1,
    modules=("Sequential", "Linear", "GroupNorm", "ReLU"),
    fitted_on_private=(),
    selected_on_private=(),
)
FAULTS: list[tuple[str, dict[str, Any]]] = [
    ("static.sampler", {"sampler_real": Sampler.SHUFFLE}),
    ("static.sampler", {"sampler_real": Sampler.WEIGHTED}),
    ("static.sample-rate", {"sample_rate_real": 0.11}),
    ("static.ranks", {"ranks": 4, "sampling_streams": 1}),
    ("static.steps", {"steps_real": 1000, "steps_with_noise": 1000}),
    ("static.noise-steps", {"steps_with_noise": 25}),
    ("static.noise-layers", {"parameters": (ParameterRecord("weight", 1.0), ParameterRecord("head", 0.0))}),
    ("static.seed", {"noise_seeds": (7,) * 100}),
    ("static.seed", {"noise_seed_public": True}),
    ("static.clipping", {"clipping": Clipping.BATCH}),
    ("static.clipping", {"parameters": (ParameterRecord("weight", 1.0), ParameterRecord("bias", 1.0, clipped=False))}),
    ("static.clipping", {"clip_adaptive": True}),
    ("static.divisor", {"divisor": Divisor.REALISED_BATCH}),
    ("static.divisor", {"divisor": Divisor.PRIVATE_ROWS}),
    ("static.weights", {"weights_bounded": False}),
    ("static.accountant", {"accountant": "gdp"}),
    ("static.accountant", {"accountant": "Opacus GDP (CLT)"}),
    ("static.adjacency", {"claim": replace(CLAIM, adjacency=Adjacency.REPLACE_ONE)}),
    ("static.epsilon", {"claim": Claim(6.0071, 1e-5)}),
    ("static.group", {"units_per_record": 4}),
    ("static.module", {"modules": ("Conv2d", "BatchNorm2d")}),
    ("static.selection", {"selected_on_private": ("epochs",)}),
    ("preprocessing.not-private", {"fitted_on_private": ("scaler",)}),
]


def test_a_record_without_fault_passes_every_rule() -> None:
    results = run_static_checks(GOOD)
    assert [r.rule for r in results] == list(STATIC_RULES)
    assert all(r.passed is True for r in results), [r.detail for r in results if not r.passed]
    json.dumps([r.to_json() for r in results])


@pytest.mark.parametrize(("rule", "fault"), FAULTS)
def test_each_fault_fails_its_rule(rule: str, fault: dict[str, Any]) -> None:
    failed = {r.rule for r in failures(run_static_checks(replace(GOOD, **fault)))}
    assert rule in failed
    # A wrong rate, noise or step count also shows in the epsilon that follows; nothing else objects.
    assert failed - {rule} <= {"static.epsilon"}


def test_every_rule_has_a_fault() -> None:
    assert {rule for rule, _ in FAULTS} == set(STATIC_RULES)


def test_silence_is_no_pass() -> None:
    results = run_static_checks(TrainingRecord(claim=CLAIM))
    undecided = {r.rule for r in results if r.passed is None}
    assert undecided == set(STATIC_RULES) - {"static.ranks"}
    assert not failures(results)


def test_figures_behind_the_epsilon_rule() -> None:
    faulty = replace(GOOD, steps_real=1000, steps_with_noise=1000)
    result = next(r for r in run_static_checks(faulty) if r.rule == "static.epsilon")
    assert result.measured == pytest.approx(7.0466, abs=5e-4)
    assert result.expected is not None
    assert result.expected > 20
    silent = next(r for r in run_static_checks(replace(GOOD, parameters=())) if r.rule == "static.noise-layers")
    assert silent.passed is None
    without = replace(GOOD, parameters=(ParameterRecord("weight", 0.0),))
    assert next(r for r in run_static_checks(without) if r.rule == "static.epsilon").passed is False
    less = replace(GOOD, steps_real=50, steps_with_noise=50, sample_rate_real=0.05)
    assert not failures(run_static_checks(less))


def test_shuffled_batches_without_claimed_amplification_are_fine() -> None:
    record = replace(GOOD, sampler_real=Sampler.SHUFFLE, sampler_accounted=Sampler.NONE)
    results = {r.rule: r.passed for r in run_static_checks(record)}
    assert results["static.sampler"] is True
    assert results["static.epsilon"] is None  # no Poisson arithmetic is done for it


def test_layers_that_mix_examples_are_found_by_name_and_by_behaviour() -> None:
    import torch

    class Centred(torch.nn.Module):
        """Batch normalisation under another name."""

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x - x.mean(dim=0)

    with Seeds(0).torch_scope():
        inputs = torch.randn(6, 5)
        honest = torch.nn.Sequential(torch.nn.Linear(5, 4), torch.nn.LayerNorm(4), torch.nn.Dropout(0.5))
        named = torch.nn.Sequential(torch.nn.Linear(5, 4), torch.nn.BatchNorm1d(4))
        hidden = torch.nn.Sequential(torch.nn.Linear(5, 4), Centred())
    assert mixes_examples(honest, inputs, seeds=Seeds(1)) == 0
    assert check_torch_module(honest, inputs, seeds=Seeds(1)).passed
    assert mixes_examples(named, inputs, seeds=Seeds(1)) > 0
    assert "BatchNorm1d" in check_torch_module(named, inputs, seeds=Seeds(1)).detail
    assert named[1].num_batches_tracked == 0  # the model itself was not run
    found = check_torch_module(hidden, inputs, seeds=Seeds(1))
    assert found.passed is False
    assert "when another example changed" in found.detail
    assert "LayerNorm" in layer_names(honest)


def test_checks_import_no_torch() -> None:
    program = "import sys, leakgauge.audit.checks; assert not {'torch', 'opacus', 'dp_accounting'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
