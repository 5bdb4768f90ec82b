"""Every layer type that language models use: per-record gradients, and what one record adds to a private step."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from leakgauge.audit.errors import IncompatibleError
from leakgauge.audit.seeds import Seeds
from leakgauge.trainers.language import DpLanguage, Language
from leakgauge.trainers.language.adapters import Adapters, with_adapters
from leakgauge.trainers.language.ghost import GhostStep, Use, squared_norms, weighted_sum
from leakgauge.trainers.language.model import LanguageModel, Size, fresh_model
from leakgauge.trainers.language.objectives import Examples, example_losses, task_of
from leakgauge.trainers.language.training import PrivateStep, per_sample
from leakgauge.trainers.recipe import Protection

VOCABULARY, PADDING, MASK, LENGTH, LIMIT, DIVISOR = 40, 38, 39, 10, 0.5, 4
SIZES = {
    "gpt2": Size(2, 8, 2),
    "llama": Size(2, 8, 2, "llama"),
    "bert": Size(2, 8, 2, "bert", "masked"),
}
SETUPS = [*SIZES, *(f"{name}-lora" for name in SIZES)]


def build(setup: str) -> LanguageModel:
    """A small model in double precision, weights four times as large as usual, so that gradients are large."""
    name, _, adapted = setup.partition("-")
    model = fresh_model(
        SIZES[name], vocabulary=VOCABULARY, length=LENGTH, seeds=Seeds(3), padding=PADDING, mask=MASK
    ).double()
    if adapted:
        pytest.importorskip("peft", reason="LoRA needs the extra peft")
        model = with_adapters(model, Adapters(2, 4.0), Seeds(4))
    with torch.no_grad(), Seeds(5).torch_scope():
        for p in model.parameters():
            # Fresh adapters have a zero factor, whose partner would have no gradient.
            p.copy_(4 * p + 0.1 * torch.randn_like(p))
    return model.train()


def examples_of(model: LanguageModel, count: int = 5) -> Examples:
    tokens = torch.randint(PADDING, (count, LENGTH), generator=Seeds(6).torch_generator())
    tokens[0, 6:] = PADDING
    return task_of(model, LENGTH, padding=PADDING, seeds=Seeds(7)).examples(tokens, 0)


def trained(model: LanguageModel) -> dict[str, torch.Tensor]:
    return {name: p for name, p in model.named_parameters() if p.requires_grad}


def record_gradients(model: LanguageModel, examples: Examples) -> dict[str, torch.Tensor]:
    """One record at a time by plain autograd: (records, ...) for each trained parameter."""
    out: dict[str, list[torch.Tensor]] = {}
    for part in examples.split(1):
        model.zero_grad()
        example_losses(model(part.inputs), part.wanted, LENGTH).sum().backward()
        for name, p in trained(model).items():
            out.setdefault(name, []).append(p.grad.clone())
    model.zero_grad()
    return {name: torch.stack(parts) for name, parts in out.items()}


@pytest.mark.filterwarnings("ignore:Full backward hook")
@pytest.mark.parametrize("setup", SETUPS)
def test_per_record_gradients_are_those_of_plain_autograd(setup):
    model = build(setup)
    examples = examples_of(model)
    wanted = record_gradients(model, examples)
    hooked = per_sample(model)
    example_losses(hooked(examples.inputs), examples.wanted, LENGTH).sum().backward()
    for name, p in trained(model).items():
        # Llama's norm and rotary positions are computed in single precision whatever the model's own.
        assert torch.allclose(p.grad_sample, wanted[name], atol=1e-5), name
        assert wanted[name].abs().max() > 0, name


@pytest.fixture(params=[PrivateStep, GhostStep], ids=["hooks", "ghost"])
def step_of(request):
    return request.param


def added_by_the_last(setup: str, limit: float, step_of) -> dict[str, torch.Tensor]:
    """What the optimizer's step has more of for the batch's last record: measured from two whole private steps without
    noise, one with the record and one without, at learning rate 1."""

    def moved(examples: Examples) -> dict[str, torch.Tensor]:
        model = build(setup)
        before = {name: p.detach().clone() for name, p in model.named_parameters()}
        recipe = replace(Language(batch_size=DIVISOR).recipe(), protection=Protection(0.0, limit))
        optimizer = torch.optim.SGD(list(trained(model).values()), lr=1.0)
        step_of(model, optimizer, recipe, LENGTH, Seeds(8).torch_generator())(examples)
        return {name: (before[name] - p.detach()) * DIVISOR for name, p in model.named_parameters()}

    examples = examples_of(build(setup))
    whole = moved(examples)
    without = moved(Examples(examples.inputs[:-1], examples.wanted[:-1]))
    return {name: whole[name] - without[name] for name in whole}


def norm(gradients: dict[str, torch.Tensor]) -> float:
    return float(torch.sqrt(sum(g.square().sum() for g in gradients.values())))


@pytest.mark.filterwarnings("ignore:Full backward hook")
@pytest.mark.parametrize("setup", SETUPS)
def test_one_record_adds_at_most_the_limit_and_only_to_what_is_trained(setup, step_of):
    model = build(setup)
    alone = {name: g[-1] for name, g in record_gradients(model, examples_of(model)).items()}
    assert norm(alone) > 2 * LIMIT, "a gradient below the limit would show nothing"
    added = added_by_the_last(setup, LIMIT, step_of)
    assert norm(added) <= LIMIT + 1e-5
    for name, change in added.items():
        wanted = alone[name] * LIMIT / norm(alone) if name in alone else torch.zeros_like(change)
        assert torch.allclose(change, wanted, atol=1e-5), name
    # A gradient within the limit is taken as it is.
    free = added_by_the_last(setup, 10 * norm(alone), step_of)
    assert norm(free) == pytest.approx(norm(alone), rel=1e-6)


def test_tied_embeddings_are_one_parameter_and_llamas_are_two():
    tied, untied = build("gpt2").inner, build("llama").inner
    assert tied.get_input_embeddings().weight is tied.get_output_embeddings().weight
    assert untied.get_input_embeddings().weight is not untied.get_output_embeddings().weight


def test_adapters_leave_everything_else_frozen():
    names = list(trained(build("gpt2-lora")))
    assert names
    assert all("lora_" in name for name in names)


def test_a_trainer_with_adapters_plans_the_claim_of_one_without():
    plain = DpLanguage(noise_multiplier=1, nominal_rows=100, batch_size=10, epochs=1)
    assert replace(plain, lora_rank=2).planned_claim(100) == plain.planned_claim(100)


@pytest.mark.filterwarnings("ignore:Full backward hook")
@pytest.mark.parametrize("setup", SETUPS)
def test_ghost_clipping_gives_the_same_model_noise_included(setup):
    def after(step_of) -> list[torch.Tensor]:
        model = build(setup)
        recipe = replace(Language(batch_size=DIVISOR).recipe(), protection=Protection(0.7, LIMIT))
        optimizer = torch.optim.SGD(list(trained(model).values()), lr=1.0)
        step = step_of(model, optimizer, recipe, LENGTH, Seeds(8).torch_generator())
        # Two chunks of one and one of the other; then nobody is sampled.
        step(examples_of(model, 70))
        nobody = torch.zeros((0, LENGTH), dtype=torch.long)
        step(Examples(nobody, nobody))
        assert all(p.requires_grad for p in step.optimizer.param_groups[0]["params"])
        return [p.detach() for p in model.parameters()]

    for one, other in zip(after(PrivateStep), after(GhostStep), strict=True):
        assert torch.allclose(one, other, atol=1e-5)


def test_norms_and_sums_from_factors_are_those_of_the_gradients_themselves():
    generator = Seeds(9).torch_generator()

    def random(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    rows = torch.randint(6, (3, 4), generator=generator)
    weights, parameter = random(3), random(6, 5)
    # Short rows go by pairs of places, long ones by the gradients.
    for length in (2, 30):
        uses = [
            Use("outer", random(3, length, 6), random(3, length, 5)),
            Use("rows", rows, random(3, 4, 5)),
            Use("outer", random(3, 7, 6), random(3, 7, 5)),
        ]
        whole = sum(
            torch.einsum("nlr,nlc->nrc", torch.nn.functional.one_hot(u.left, 6).double(), u.right)
            if u.kind == "rows"
            else torch.einsum("nlr,nlc->nrc", u.left, u.right)
            for u in uses
        )
        assert torch.allclose(squared_norms(uses), whole.square().sum(dim=(1, 2)))
        assert torch.allclose(weighted_sum(parameter, uses, weights), torch.einsum("n,nrc->rc", weights, whole))


def test_norms_are_never_too_small_where_places_cancel():
    generator = Seeds(10).torch_generator()
    left, right = (torch.randn((200, 2, width), generator=generator) for width in (64, 48))
    # The second place nearly undoes the first, by all degrees down to the last digit.
    left[:, 1] = left[:, 0]
    right[:, 1] = -right[:, 0] * (1 + torch.logspace(-7.2, 0, 200))[:, None]
    whole = torch.einsum("nlr,nlc->nrc", left.double(), right.double()).square().sum(dim=(1, 2))
    pairs = squared_norms([Use("outer", left, right)]).double()
    assert (pairs >= whole).all()
    # Where nothing cancels the addition is lost in rounding.
    assert torch.allclose(pairs[-20:], whole[-20:], rtol=1e-3)
    same = squared_norms([Use("outer", left, right.abs())]).double()
    wanted = torch.einsum("nlr,nlc->nrc", left.double(), right.abs().double()).square().sum(dim=(1, 2))
    assert torch.allclose(same, wanted, rtol=1e-5)


def test_a_layer_without_a_rule_is_refused():
    model = build("gpt2")
    model.scale = torch.nn.Parameter(torch.ones(1))
    recipe = Language(batch_size=DIVISOR).recipe()
    with pytest.raises(IncompatibleError, match="no rule for scale"):
        GhostStep(model, torch.optim.SGD(model.parameters(), lr=1.0), recipe, LENGTH, None)
