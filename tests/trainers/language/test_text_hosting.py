"""Text canaries inside language trainers: how they are made, inserted, and seen."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from leakgauge.audit.accounting import group_claim
from leakgauge.audit.canaries import CanaryHost, CanarySet
from leakgauge.audit.errors import ConfigError, IncompatibleError
from leakgauge.audit.seeds import Seeds
from leakgauge.audit.text import byte_rows
from leakgauge.audit.types import Rows, Unit
from leakgauge.trainers.language import DpLanguage, Language
from leakgauge.trainers.language.canaries import HOT, NEW, RANDOM, TEMPLATED, TextCanaries, Workshop, craft
from leakgauge.trainers.language.fitting import Extra, start_of, starting_model
from leakgauge.trainers.language.hosting import extra_of, host_text_canaries, probabilities, room_for
from leakgauge.trainers.language.objectives import record_losses

SMALL: dict[str, Any] = {"layers": 1, "width": 8, "heads": 2, "length": 12}
TEXTS = [f"house {n} is red" for n in range(20)]
DATA = Rows(byte_rows(TEXTS, 12), np.zeros(20, np.int64), tuple(map(str, range(20))), 1)
ALL = np.ones(20, bool)
TEMPLATE = {"beginnings": tuple(f"Pin {n}: " for n in range(10)), "ending": ".", "digits": 2}


@pytest.fixture
def public(tmp_path: Path) -> dict[str, Any]:
    path = tmp_path / "public.txt"
    path.write_text("The colour of a garden is green. " * 20, encoding="utf-8")
    return {**SMALL, "public": str(path), "public_epochs": 0.2}


def canaries(kind: str = NEW, count: int = 10, inside: Any = None, view: str = "final-model", **kw: Any) -> CanarySet:
    coins = np.arange(count) % 2 == 0 if inside is None else np.asarray(inside)
    return CanarySet(kind, coins, Unit.RECORD, view, kw)


def private(**kw: Any) -> DpLanguage:
    given = {**SMALL, "epochs": 2, "batch_size": 10, "nominal_rows": 20, "noise_multiplier": 1.0}
    return DpLanguage(**{**given, **kw})


def test_every_kind_is_made_of_different_rows_that_follow_from_the_seeds(public):
    shop = Workshop(Language(**public).beginning(), "cpu")
    settings = {RANDOM: {}, NEW: {"prefix_tokens": 3}, HOT: {"temperature": 2.0}, TEMPLATED: TEMPLATE}
    for kind, parameters in settings.items():
        made, again, other = (craft(kind, 10, parameters, shop, seeds=Seeds(s)) for s in (1, 1, 2))
        assert np.array_equal(made.tokens, again.tokens)
        assert not np.array_equal(made.tokens, other.tokens) or kind == NEW
        assert made.tokens.shape == made.scored.shape == (10, 12)
        assert len(np.unique(made.tokens, axis=0)) == 10
        assert not made.scored[:, 0].any()
        assert not (made.scored & (made.tokens == 256)).any()
        assert made.scored.any(axis=1).all()


def test_new_tokens_follow_public_text_and_occur_nowhere_else(public):
    shop = Workshop(Language(**public).beginning(), "cpu")
    made = craft(NEW, 10, {"prefix_tokens": 3}, shop, seeds=Seeds(1))
    assert made.first_new == 257
    assert made.tokens[:, 3].tolist() == list(range(257, 267))
    text = "The colour of a garden is green. " * 20
    assert all(bytes(row[:3].astype(np.uint8)).decode() in text for row in made.tokens)
    assert (made.tokens[:, 4:] == 256).all()
    assert made.scored.sum() == 10
    shared = craft(NEW, 10, {"prefix_tokens": 3, "prefixes": 1}, shop, seeds=Seeds(1))
    assert len(np.unique(shared.tokens[:, :3], axis=0)) == 1


def test_templated_canaries_score_the_number_alone():
    made = craft(TEMPLATED, 10, TEMPLATE, Workshop(Language(**SMALL).beginning(), "cpu"), seeds=Seeds(1))
    for number, (row, scored) in enumerate(zip(made.tokens, made.scored, strict=True)):
        text = bytes(row[row < 256].astype(np.uint8)).decode()
        assert text.startswith(f"Pin {number}: ")
        assert text.endswith(".")
        assert bytes(row[scored].astype(np.uint8)).decode() == text[7:9]


def test_random_tokens_are_uniform_over_the_vocabulary_without_padding():
    shop = Workshop(Language(**{**SMALL, "length": 50}).beginning(), "cpu")
    drawn = craft(RANDOM, 400, {}, shop, seeds=Seeds(1)).tokens
    counts = np.bincount(drawn.ravel(), minlength=257)
    assert counts[256] == 0
    # 20000 draws over 256 cells: chi-square has mean 255 and deviation 22.6; beyond 370 once in 10^6.
    expected = drawn.size / 256
    assert ((counts[:256] - expected) ** 2 / expected).sum() < 370


def test_hot_text_is_flatter_than_cold_text(public):
    shop = Workshop(Language(**{**public, "public_epochs": 8.0, "public_learning_rate": 0.01}).beginning(), "cpu")
    cold, hot = (craft(HOT, 60, {"temperature": t}, shop, seeds=Seeds(1)) for t in (0.8, 20.0))
    model = starting_model(shop.beginning, seeds=Seeds(0), device="cpu").eval()
    means = [probabilities(model, made, "cpu")["own"].mean() for made in (cold, hot)]
    assert means[0] > means[1] + 1


@pytest.mark.parametrize(
    ("kind", "parameters", "trainer", "message"),
    [
        (NEW, {}, SMALL, "set public"),
        (HOT, {}, SMALL, "public_epochs"),
        (RANDOM, {"tokens": 13}, SMALL, "2..12"),
        (TEMPLATED, {**TEMPLATE, "beginnings": ("x" * 12,) * 10}, SMALL, "shorten template"),
        (TEMPLATED, {**TEMPLATE, "beginnings": ("a",) * 10, "digits": 1}, SMALL, "different"),
        ("gradient-dirac", {}, SMALL, "text-new-token"),
    ],
)
def test_what_cannot_be_made_is_refused(kind, parameters, trainer, message):
    with pytest.raises(IncompatibleError, match=message):
        craft(kind, 10, parameters, Workshop(Language(**trainer).beginning(), "cpu"), seeds=Seeds(1))


def test_masked_models_defences_and_unknown_views_are_refused():
    with pytest.raises(IncompatibleError, match="masked"):
        Language(**SMALL, architecture="bert", objective="masked").fit_with_canaries(
            DATA, ALL, canaries(RANDOM), seeds=Seeds(1), device="cpu"
        )
    with pytest.raises(IncompatibleError, match="secret-exposure"):
        Language(**SMALL, randomise=0.5).fit_with_canaries(DATA, ALL, canaries(RANDOM), seeds=Seeds(1), device="cpu")
    with pytest.raises(ConfigError, match="view"):
        Language(**SMALL).fit_with_canaries(DATA, ALL, canaries(RANDOM, view="sum"), seeds=Seeds(1), device="cpu")


def naive(model: Any, made: TextCanaries) -> np.ndarray:
    """One canary, one token at a time."""
    out = []
    for row, scored in zip(made.tokens, made.scored, strict=True):
        total = 0.0
        for place in np.flatnonzero(scored):
            logits = model(torch.from_numpy(row[None, :place]))[0, -1].double()
            total += float(logits[row[place]] - torch.logsumexp(logits, 0))
        out.append(total)
    return np.array(out)


@pytest.mark.parametrize(("kind", "parameters"), [(RANDOM, {}), (NEW, {"prefix_tokens": 2}), (TEMPLATED, TEMPLATE)])
def test_probabilities_are_those_of_reading_token_after_token(public, kind, parameters):
    tuning = Language(**public).tuning()
    made = craft(kind, 10, parameters, Workshop(tuning.beginning, "cpu"), seeds=Seeds(1))
    model = start_of(tuning, extra_of(made, np.arange(10)), seeds=Seeds(2), device="cpu").eval()
    with torch.no_grad():
        seen = probabilities(model, made, "cpu")
        assert np.allclose(seen["own"], naive(model, made), atol=1e-5)
        if made.first_new is not None:
            others = []
            for number, row in enumerate(made.tokens):
                logs = model(torch.from_numpy(row[None, :2]))[0, -1].double().log_softmax(-1).numpy()
                others.append(np.delete(logs[257:267], number).mean())
            assert np.allclose(seen["others"], others, atol=1e-5)


@pytest.mark.parametrize("sampling", ["poisson", "shuffle"])
def test_room_for_canaries_keeps_rate_steps_and_noise(sampling):
    for rows, batch, epochs in ((1280, 128, 4), (100, 100, 3), (1000, 7, 0.3), (999, 64, 8)):
        trainer = Language(**SMALL, nominal_rows=rows, batch_size=batch, epochs=epochs, sampling=sampling)
        before, after = trainer.recipe(), room_for(trainer.recipe(), 250.0)
        assert after.steps(0) == before.steps(0)
        assert after.sample_rate(0) <= before.sample_rate(0)
        assert after.sample_rate(0) == pytest.approx(before.sample_rate(0), rel=0.1)
        assert after.nominal_rows >= rows + 240


def test_the_claim_is_the_trainers_own_and_that_of_groups_for_repeated_canaries():
    trainer = private()
    assert isinstance(trainer, CanaryHost)
    single, several = canaries(RANDOM), canaries(RANDOM, repetitions=3)
    assert trainer.planned_canary_claim(20, single) == trainer.planned_claim(20)
    assert trainer.planned_canary_claim(20, several) == group_claim(trainer.planned_claim(20), 3)
    seen = trainer.fit_with_canaries(DATA, ALL, several, seeds=Seeds(1), device="cpu")
    assert seen.claim == group_claim(trainer.planned_claim(20), 3)
    assert seen.claim.epsilon > trainer.planned_claim(20).epsilon
    assert trainer.unprotected().planned_canary_claim(20, single) is None


def trained_rows(monkeypatch: pytest.MonkeyPatch, run: Callable[[], Any]) -> np.ndarray:
    """The token rows that training was given."""
    from leakgauge.trainers.language import training

    given: list[np.ndarray] = []
    tune = training.tune

    def listening(module: Any, tokens: np.ndarray, inside: np.ndarray, *args: Any, **kw: Any) -> int:
        given.append(tokens[inside])
        return tune(module, tokens, inside, *args, **kw)

    monkeypatch.setattr(training, "tune", listening)
    run()
    return given[-1]


def test_training_sees_the_real_rows_and_each_inserted_canary_so_often(monkeypatch):
    chosen = np.arange(20) < 7
    asked = canaries(RANDOM, repetitions=3)
    trainer = private()
    rows = trained_rows(
        monkeypatch, lambda: trainer.fit_with_canaries(DATA, chosen, asked, seeds=Seeds(1), device="cpu")
    )
    made = craft(RANDOM, 10, {}, Workshop(trainer.tuning().beginning, "cpu"), seeds=Seeds(1).at("canaries"))
    assert np.array_equal(rows[:7], DATA.features[:7])
    assert np.array_equal(rows[7:], np.repeat(made.tokens[asked.inside], 3, axis=0))


def test_what_is_seen_tells_coins_only_through_training(public):
    # The model before fine-tuning, the public facts and the claim are the same whatever the coins say.
    trainer = private(**public)
    one, other = (
        trainer.fit_with_canaries(DATA, ALL, canaries(inside=coins), seeds=Seeds(1), device="cpu")
        for coins in (np.arange(10) % 2 == 0, np.zeros(10, bool))
    )
    assert np.array_equal(one.transcript["own-before"], other.transcript["own-before"])
    assert (one.public, one.claim, one.metrics) == (other.public, other.claim, other.metrics)
    assert not np.array_equal(one.transcript["own"], other.transcript["own"])
    assert set(one.transcript) == {"own", "others", "own-before", "others-before"}


def test_without_noise_inserted_new_tokens_stand_out(public):
    trainer = private(**public, noise_multiplier=1e-3, batch_size=20, epochs=8, max_grad_norm=0.1, learning_rate=3e-3)
    asked = canaries(count=20)
    # Called directly: accounting for next to no noise is slow.
    seen = host_text_canaries(trainer.tuning(), DATA, ALL, asked, None, seeds=Seeds(1), device="cpu").transcript
    gain = (seen["own"] - seen["own-before"]) - (seen["others"] - seen["others-before"])
    assert gain[asked.inside].min() > gain[~asked.inside].max()


def test_the_step_observer_sees_one_for_a_clipped_canary_alone():
    # No real rows, everything sampled, next to no noise: the release is the inserted canary's own clipped gradient.
    inside = np.arange(10) == 4
    trainer = private(batch_size=20, epochs=3, max_grad_norm=1e-3, noise_multiplier=1e-4, optimizer="sgd")
    asked = canaries(RANDOM, inside=inside, view="steps", expected=1)
    nobody = np.zeros(20, bool)
    seen = host_text_canaries(trainer.tuning(), DATA, nobody, asked, None, seeds=Seeds(1), device="cpu")
    projections = seen.transcript["projections"]
    assert projections.shape == (3, 10)
    assert np.allclose(projections[:, 4], 1, atol=0.01)
    assert (projections[:, ~inside] < 0.9).all()
    assert seen.metrics["canaries_clipped"] == 1.0


def test_the_step_observer_reads_the_products_that_single_gradients_have():
    trainer = private(batch_size=20, epochs=2, noise_multiplier=0.5, learning_rate=0.01)
    asked = canaries(RANDOM, view="steps")
    witnessed = host_text_canaries(trainer.tuning(), DATA, ALL, asked, None, seeds=Seeds(1), device="cpu")
    seen = witnessed.transcript["projections"]
    # The oracle: the same training watched from outside, gradients one canary at a time by plain autograd.
    from leakgauge.trainers.language.fitting import fit_language

    tuning = trainer.tuning()
    made = craft(RANDOM, 10, {}, Workshop(tuning.beginning, "cpu"), seeds=Seeds(1).at("canaries"))
    tuning = replace(tuning, recipe=room_for(tuning.recipe, 5.0))
    extra = Extra(made.tokens[asked.inside])
    released: list[list[torch.Tensor]] = []
    fit_language(
        tuning,
        DATA,
        ALL,
        seeds=Seeds(1),
        device="cpu",
        extra=extra,
        watch=lambda step, gradients: released.append([g.clone() for g in gradients]),
    )
    model = start_of(tuning, extra, seeds=Seeds(1), device="cpu").train()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for step, gradients in enumerate(released):
        for number, row in enumerate(torch.from_numpy(made.tokens)):
            model.zero_grad()
            record_losses(model(row[None]), row[None], 256).sum().backward()
            own = torch.cat([p.grad.flatten() for p in model.parameters()]).double()
            whole = torch.cat([g.flatten() for g in gradients]).double()
            wanted = float(own @ whole / own.norm()) * tuning.recipe.batch_size / 1.0
            assert seen[step, number] == pytest.approx(wanted, rel=1e-3, abs=1e-4)
        for p, gradient in zip(model.parameters(), gradients, strict=True):
            p.grad = gradient.clone()
        optimizer.step()
