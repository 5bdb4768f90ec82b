"""Reconstruction scores, worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from leakgauge.attacks.membership.queries.reconstruction import ReconstructionErrors
from leakgauge.attacks.membership.reconstruction import ReconstructionLoss
from leakgauge.audit.errors import ConfigError, IncompatibleError
from leakgauge.audit.seeds import Seeds
from leakgauge.audit.types import Answers, Evidence, Rows, Trained

SEEDS = Seeds(1)
ROWS = Rows(np.array([[3.0, 4.0], [0.0, 2.0]], np.float32), np.zeros(2, np.int64), ("a", "b"), 1)


class Halving:
    """Restores half of every number."""

    def encode(self, features):
        return features

    def reconstruct(self, features):
        return features / 2


def test_errors_of_the_record_and_of_its_surroundings():
    plain = ReconstructionErrors(draws=0).ask(Trained(None, Halving(), None, 0), ROWS, seeds=SEEDS, device="cpu")
    # Half of (1.5^2 + 2^2) and of (0 + 1).
    assert plain.tolist() == [[3.125, 3.125], [0.5, 0.5]]
    # Around x the error is E|(x + n) / 2 - x|^2 / 2 = |x|^2 / 8 + 2 * noise^2 / 8. 4000 draws: standard error .02.
    around = ReconstructionErrors(4000, 0.5).ask(Trained(None, Halving(), None, 0), ROWS, seeds=SEEDS, device="cpu")
    assert around[:, 1] == pytest.approx([3.125 + 0.0625, 0.5 + 0.0625], abs=0.08)


def evidence(target, shadows, inside):
    blank = np.zeros((2, 1), np.float32)
    answers = Answers(target, shadows, np.zeros((0, 2)), np.zeros((len(shadows), 0, 2)))
    return Evidence(
        ROWS.labels,
        ROWS.records,
        blank,
        np.zeros((len(shadows), 2, 1), np.float32),
        inside,
        np.zeros(0, np.int64),
        np.zeros((0, 1), np.float32),
        np.zeros((len(shadows), 0, 1), np.float32),
        answers={ReconstructionErrors.name: answers},
    )


def test_scores_without_and_with_shadows():
    target = np.array([[math.e, 1.0], [1.0, math.e]])
    none = np.zeros((0, 2), dtype=bool)
    plain = ReconstructionLoss().score(evidence(target, np.zeros((0, 2, 2)), none), seeds=SEEDS)
    assert plain.values.tolist() == pytest.approx([-1.0, 0.0])
    around = ReconstructionLoss(of="surroundings").score(evidence(target, np.zeros((0, 2, 2)), none), seeds=SEEDS)
    assert around.values.tolist() == pytest.approx([0.0, -1.0])
    # Logs of shadow errors: in -0 and -2, out -2 and -4 for both records; means -1 and -3, pooled variance 2.
    logs = np.array([0.0, 2.0, 2.0, 4.0])
    shadows = np.exp(logs)[:, None, None] * np.ones((4, 2, 2))
    inside = np.array([[True] * 2, [True] * 2, [False] * 2, [False] * 2])
    ratio = ReconstructionLoss(shadows=4).score(evidence(target, shadows, inside), seeds=SEEDS)
    # ((x + 3)^2 - (x + 1)^2) / (2 * 2) at x = -1 and 0.
    assert ratio.values.tolist() == pytest.approx([1.0, 2.0])


def test_other_models_and_settings_are_refused():
    class Classifier:
        def log_probabilities(self, features):
            return np.zeros((len(features), 2))

    with pytest.raises(IncompatibleError, match="trainer 'autoencoder'"):
        ReconstructionErrors().ask(Trained(None, Classifier(), None, 0), ROWS, seeds=SEEDS, device="cpu")
    with pytest.raises(ConfigError, match="of must be one of record, surroundings"):
        ReconstructionLoss(of="both")
    with pytest.raises(ConfigError, match="shadows"):
        ReconstructionLoss(shadows=1)
