"""Each example's contribution to a private step, measured from outside, and against plain autograd."""

from __future__ import annotations

import importlib.util
import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from leakgauge.audit.seeds import Seeds
from leakgauge.audit.types import Job, Rows
from leakgauge.trainers.dpsgd import DpSgd
from leakgauge.trainers.models import ModelSpec, build_model
from leakgauge.trainers.recipe import OptimizerSpec, Protection, Recipe
from leakgauge.trainers.release import per_record_gradients
from leakgauge.trainers.steps import make_step

LENGTH = 7
VARIANTS = {
    "full": {"layers": 2, "width": 8},
    "top-layer": {"layers": 2, "width": 8, "trained_layers": 1},
    "head-only": {"layers": 1, "width": 8, "trained_layers": 0},
    "lora": {"layers": 2, "width": 8, "lora_rank": 2},
    "lora-top": {"layers": 2, "width": 8, "lora_rank": 2, "trained_layers": 1},
    "pretrained-top": {"trained_layers": 2},
}
needs_peft = pytest.mark.skipif(importlib.util.find_spec("peft") is None, reason="needs the package peft")
CASES = [pytest.param(name, marks=needs_peft if "lora" in name else ()) for name in VARIANTS]


@pytest.fixture(params=CASES)
def spec(request, bert_folder) -> ModelSpec:
    given = dict(VARIANTS[request.param])
    if request.param == "pretrained-top":
        given["pretrained"] = str(bert_folder)
    return ModelSpec("transformer", transformer=given)


def module_of(spec: ModelSpec) -> torch.nn.Module:
    """In float64; LoRA's second factor starts at zero, which would hide the first one's gradient."""
    module = build_model(spec, (LENGTH,), 3, seeds=Seeds(1)).double()
    generator = Seeds(2).torch_generator()
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if "lora_B" in name:
                parameter.copy_(torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
    return module


def batch(module, count: int = 5) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows of different lengths with repeated tokens, and one of padding alone."""
    tokens = torch.randint(1, 6, (count, LENGTH), generator=Seeds(3).torch_generator())
    for row in range(count):
        tokens[row, row + 1 :] = module.padding
    tokens[-1] = module.padding
    return tokens, torch.arange(count) % 3


def by_autograd(module, tokens, labels) -> torch.Tensor:
    """(records, parameters): one record, one backward pass."""
    trained = [p for p in module.parameters() if p.requires_grad]
    out = []
    for row, label in zip(tokens, labels, strict=True):
        got = torch.autograd.grad(cross_entropy(module(row[None]), label[None]), trained, allow_unused=True)
        parts = [torch.zeros_like(p) if g is None else g for p, g in zip(trained, got, strict=True)]
        out.append(torch.cat([g.flatten() for g in parts]))
    return torch.stack(out)


def private_move(module, tokens, labels, *, limit: float, clipping) -> torch.Tensor:
    """What one noiseless step of size 1 with divisor 1 does to the trained parameters; frozen ones must stand still."""
    recipe = Recipe(
        ModelSpec(), OptimizerSpec("sgd", 1.0, 0.0), 1, 1, "poisson", 10, "float64", Protection(0.0, limit, clipping)
    )
    before = {n: p.detach().clone() for n, p in module.named_parameters()}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Full backward hook")
        make_step(module, recipe, seeds=Seeds(1), device="cpu")(tokens, labels)
    after = dict(module.named_parameters())
    assert all(torch.equal(before[n], p) for n, p in after.items() if not p.requires_grad)
    return torch.cat([(before[n] - p.detach()).flatten() for n, p in after.items() if p.requires_grad])


@pytest.mark.parametrize("clipping", ["hooks", "ghost"])
def test_a_step_is_the_sum_of_clipped_gradients_of_single_records(spec, clipping) -> None:
    module = module_of(spec)
    tokens, labels = batch(module)
    each = by_autograd(module, tokens, labels)
    norms = each.norm(dim=1)
    assert (norms > 0).all()
    limit = float(norms.median())
    expected = (each * (limit / (norms + 1e-6)).clamp(max=1.0)[:, None]).sum(0)
    moved = private_move(module_of(spec), tokens, labels, limit=limit, clipping=clipping)
    torch.testing.assert_close(moved, expected, atol=1e-9, rtol=1e-7)


@pytest.mark.parametrize("clipping", ["hooks", "ghost"])
def test_no_record_contributes_more_than_the_limit(spec, clipping) -> None:
    """With and without a record: the two sums differ by at most C, and by C where its gradient is longer."""
    limit = 0.01
    tokens, labels = batch(module_of(spec))
    whole = private_move(module_of(spec), tokens, labels, limit=limit, clipping=clipping)
    for left_out in range(len(labels)):
        rest = torch.arange(len(labels)) != left_out
        part = private_move(module_of(spec), tokens[rest], labels[rest], limit=limit, clipping=clipping)
        contribution = float((whole - part).norm())
        assert contribution <= limit * (1 + 1e-9)
        assert contribution > 0.99 * limit


def test_per_record_gradients_are_those_of_autograd(spec) -> None:
    module = module_of(spec)
    tokens, labels = batch(module)
    expected = by_autograd(module, tokens, labels)
    torch.testing.assert_close(per_record_gradients(module, tokens, labels), expected, atol=1e-10, rtol=1e-8)


def test_every_kind_of_layer_has_a_gradient_of_each_record(spec) -> None:
    """Opacus's per-sample gradients, parameter by parameter: embeddings, normalisation, linear, LoRA."""
    from opacus.grad_sample import GradSampleModule

    module = module_of(spec)
    tokens, labels = batch(module)
    expected = by_autograd(module, tokens, labels)
    hooked = GradSampleModule(module_of(spec).train(), loss_reduction="sum")
    cross_entropy(hooked(tokens), labels, reduction="sum").backward()
    trained = [p for p in hooked.parameters() if p.requires_grad]
    found = torch.cat([p.grad_sample.flatten(1) for p in trained], dim=1)
    torch.testing.assert_close(found, expected, atol=1e-10, rtol=1e-8)


def test_stacked_and_single_private_models_are_equal(tokens_data: Rows) -> None:
    """The functional engine, ghost clipping and hooks give one model, noise included."""
    trainer = DpSgd(
        model="transformer",
        transformer={"layers": 1, "width": 8},
        noise_multiplier=0.7,
        nominal_rows=20,
        batch_size=5,
        epochs=1,
        dtype="float64",
    )
    inside = np.arange(len(tokens_data)) % 2 == 0
    jobs = [Job(inside, Seeds(4).at(k)) for k in range(2)]
    stacked = trainer.fit_many(tokens_data, jobs, device="cpu")
    for clipping in ("hooks", "ghost"):
        alone = replace(trainer, clipping=clipping).fit(tokens_data, inside, seeds=jobs[1].seeds, device="cpu")
        for one, other in zip(alone.model.parameters(), stacked[1].model.parameters(), strict=True):
            torch.testing.assert_close(one, other, atol=1e-9, rtol=0)
    assert alone.claim == trainer.planned_claim(0)
