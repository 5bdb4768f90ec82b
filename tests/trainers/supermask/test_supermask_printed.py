from __future__ import annotations

import numpy as np
import pytest
import torch

from leakgauge.audit.errors import IncompatibleError
from leakgauge.audit.seeds import Seeds
from leakgauge.audit.types import Rows
from leakgauge.trainers.models import ModelSpec, build_model
from leakgauge.trainers.supermask import printed

PLACE = "leakgauge.trainers.supermask.printed:digits"


def test_it_knows_handwritten_digits_0_to_4_and_no_others(digits: Rows) -> None:
    """It has seen printed ones only; seen 0.81."""
    network = build_model(ModelSpec(PLACE), (64,), 10, seeds=Seeds(1))
    with torch.no_grad():
        logits = network(torch.from_numpy(digits.features)).numpy()
    known = digits.labels < 5
    assert (logits[known, :5].argmax(1) == digits.labels[known]).mean() > 0.7
    assert not logits[:, 5:].any()


def test_it_is_the_same_on_every_call_and_lies_on_the_grid() -> None:
    first = {k: v.clone() for k, v in printed.digits((1, 8, 8), 10).state_dict().items()}
    printed._pretrained.cache_clear()
    second = printed.digits((64,), 10).state_dict()
    for name, weight in first.items():
        assert torch.equal(weight, second[name])
        steps = weight.double() / printed.GRID
        assert torch.equal(steps, steps.round())


def test_glyphs_are_ink_in_the_unit_interval_and_balanced() -> None:
    images, labels = printed.printed(seeds=Seeds(2))
    assert images.shape == (len(printed.FONTS) * printed.KNOWN * printed.COPIES, 8, 8)
    assert images.min() >= 0
    assert images.max() <= 1
    assert (np.bincount(labels) == len(printed.FONTS) * printed.COPIES).all()
    # No font draws nothing, or a black box.
    assert images.mean(axis=(1, 2)).min() > 0.05
    assert images.mean(axis=(1, 2)).max() < 0.9


@pytest.mark.parametrize(("shape", "classes"), [((28, 28), 10), ((8, 8), 3)])
def test_other_shapes_are_refused(shape: tuple[int, ...], classes: int) -> None:
    with pytest.raises(IncompatibleError, match="8x8"):
        printed.digits(shape, classes)
