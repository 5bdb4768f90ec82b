"""Records end to end without padding, and the states of frozen layers kept: the same answers."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from leakgauge.audit.seeds import Seeds
from leakgauge.trainers.models import ModelSpec, build_model
from leakgauge.trainers.transformer.classifier import TransformerClassifier
from leakgauge.trainers.transformer.memory import StateMemory, remembering

PADDING = 256


def classifier(trained_layers: int | None = 1, seed: int = 0) -> TransformerClassifier:
    table = {"layers": 3, "width": 16, "heads": 2, "trained_layers": trained_layers}
    module = build_model(ModelSpec("transformer", transformer=table), (24,), 3, seeds=Seeds(seed))
    assert isinstance(module, TransformerClassifier)
    return module.double()


def rows(count: int = 9) -> torch.Tensor:
    """Rows of unlike lengths; the last holds padding alone."""
    generator = Seeds(7).at("rows").generator()
    out = np.full((count, 24), PADDING, np.int64)
    for row in out[:-1]:
        length = int(generator.integers(1, 25))
        row[:length] = generator.integers(0, 256, length)
    return torch.from_numpy(out)


def gradients(module: TransformerClassifier, logits: torch.Tensor) -> list[torch.Tensor]:
    moved = [p for p in module.parameters() if p.requires_grad]
    return list(torch.autograd.grad(logits.square().sum(), moved))


@pytest.mark.parametrize("trained_layers", [None, 0, 1])
def test_end_to_end_and_padded_records_get_the_same_answers_and_gradients(
    trained_layers: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Oracle: the padded batch. Rows of at most 20 tokens, so that the records take several."""
    monkeypatch.setattr("leakgauge.trainers.transformer.classifier.PACKED", 20)
    module, tokens = classifier(trained_layers), rows()
    packed, padded = module(tokens), module._logits(tokens)
    torch.testing.assert_close(packed, padded, rtol=0, atol=1e-12)
    for own, theirs in zip(gradients(module, packed), gradients(module, padded), strict=True):
        torch.testing.assert_close(own, theirs, rtol=0, atol=1e-10)


def test_an_answer_does_not_depend_on_the_other_records() -> None:
    module, tokens = classifier(), rows()
    others = rows().flip(0).clone()
    others[3] = tokens[3]
    torch.testing.assert_close(module(tokens)[3], module(others)[3], rtol=0, atol=1e-12)


def test_hooks_see_records_along_the_first_axis() -> None:
    module, tokens, seen = classifier(), rows(), []
    handle = module.encoder.encoder.layer[2].register_forward_hook(lambda _m, _i, out: seen.append(len(out)))
    hooked = module(tokens)
    handle.remove()
    assert seen == [len(tokens)]
    torch.testing.assert_close(module(tokens), hooked, rtol=0, atol=1e-12)


@pytest.mark.parametrize("trained_layers", [0, 1])
def test_kept_states_change_no_answer_and_no_gradient(trained_layers: int) -> None:
    module, tokens = classifier(trained_layers), rows()
    plain = module(tokens)
    with remembering(1 << 20) as memory:
        with torch.inference_mode():
            torch.testing.assert_close(module(tokens), plain, rtol=0, atol=1e-12)
        kept = module(tokens)
        assert memory.found == len(tokens)
        torch.testing.assert_close(kept, plain, rtol=0, atol=1e-12)
        for own, theirs in zip(gradients(module, kept), gradients(module, plain), strict=True):
            torch.testing.assert_close(own, theirs, rtol=0, atol=1e-10)


def test_states_belong_to_the_content_of_the_weights() -> None:
    """Another model, or a weight written to, gets states of its own; the same content in another model does not."""
    tokens = rows()
    with remembering(1 << 20) as memory:
        first = classifier()
        first(tokens)
        with torch.no_grad():
            first.head.weight.mul_(2)
            first(tokens)
            assert memory.found == len(tokens)
            first.encoder.embeddings.word_embeddings.weight.mul_(1.5)
        written = first(tokens)
        assert memory.found == len(tokens)
        other = classifier(seed=1)
        answer = other(tokens)
        assert memory.found == len(tokens)
        classifier(seed=1)(tokens)
        assert memory.found == 2 * len(tokens)
    torch.testing.assert_close(written, first(tokens), rtol=0, atol=1e-12)
    torch.testing.assert_close(answer, other(tokens), rtol=0, atol=1e-12)


def test_nothing_is_kept_of_layers_that_are_trained() -> None:
    with remembering(1 << 20) as memory:
        classifier(None)(rows())
        masked = classifier(1)
        masked.encoder.encoder.layer[0].requires_grad_(True)
        masked(rows())
    assert memory.used == 0


def test_the_memory_stays_within_its_limit() -> None:
    memory = StateMemory(3 * 4 * 2)
    weights = [torch.zeros(2)]
    made = []

    def make(tokens: torch.Tensor) -> list[torch.Tensor]:
        made.append(tokens[:, 0].tolist())
        return [row[:, None].float() for row in tokens]

    first = torch.tensor([[1, 1], [2, 2], [3, 3], [1, 1]])
    got = memory.states(weights, first, make)
    assert [int(s[0]) for s in got] == [1, 2, 3, 1]
    assert memory.used == memory.limit
    memory.states(weights, torch.tensor([[1, 1], [4, 4]]), make)
    assert memory.used == memory.limit
    # 2 was used longest ago.
    memory.states(weights, torch.tensor([[1, 1], [3, 3], [2, 2]]), make)
    assert [sorted(rows) for rows in made] == [[1, 2, 3], [4], [2]]


def test_kept_states_are_the_same_to_the_last_bit_whatever_was_asked_before() -> None:
    module, tokens = classifier().float(), rows()
    with remembering(1 << 20):
        together = module(tokens)
    with remembering(1 << 20):
        for row in tokens.flip(0):
            module(row[None])
        assert torch.equal(module(tokens), together)


def test_hooked_layers_get_the_kept_states_too() -> None:
    """The padded batch of per-sample gradients, a row with padding in its middle included."""
    module, tokens = classifier(), rows()
    tokens[0, :6] = torch.tensor([5, 6, PADDING, 7, PADDING, 8])
    plain = module(tokens)
    with remembering(1 << 20) as memory:
        handle = module.head.register_forward_hook(lambda *_: None)
        hooked = module(tokens), module(tokens)
        handle.remove()
    assert memory.found == len(tokens)
    for answer in hooked:
        torch.testing.assert_close(answer, plain, rtol=0, atol=1e-12)
