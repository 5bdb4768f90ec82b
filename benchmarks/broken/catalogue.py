"""The zoo: every entry a correct trainer with one part replaced, where the mistake was seen, and what must catch it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from opacus.optimizers import DPOptimizer

from ...audit.types import Adjacency
from . import opacus_patches as patches
from . import optimizers
from .federated import FederatedMean, FederatedSubject, noise_shares, relative_weights
from .games import DivisorGame, ShuffleGame
from .opacus_subject import CanaryGame, Game, OpacusSubject
from .opacus_trainer import OpacusTrainer, Scale
from .ranks import Ranks, RanksGame
from .release import ReleaseSubject, half_precision_noise
from .subject import Broken, Subject

THOUSAND = Scale(rows=1000, canaries=1000, batch=20, epochs=10, guesses=200)
EIGHTFOLD = Scale(rows=1000, canaries=1000, batch=90, epochs=10, guesses=200)
"""The same sampling rate when each canary is eight rows."""


def opacus(*, game: Game | None = None, ranks: Ranks | None = None, **parts: Any) -> Callable[[], Subject]:
    """An Opacus trainer with these parts in the place of the right ones."""
    return lambda: OpacusSubject(OpacusTrainer(**parts), game or CanaryGame(), ranks)


CORRECT: Mapping[str, Callable[[], Subject]] = {
    "opacus": opacus(),
    "opacus, 100 rows or 99": opacus(game=DivisorGame()),
    "opacus, one epoch of 10,000 steps": opacus(game=ShuffleGame()),
    "opacus, public validation, scaler and group norm": opacus(
        base=patches.group_normalised, prepare=patches.scale_by_public_rows, after_epoch=patches.stop_on_public
    ),
    "opacus, one row a record": opacus(game=CanaryGame(THOUSAND)),
    "opacus, eight workers": opacus(game=RanksGame(), ranks=Ranks()),
    "federated": FederatedSubject,
    "release": ReleaseSubject,
}
"""The same trainers without a mistake, by name."""

DYNAMIC = (
    Broken(
        "noise-omitted",
        "No noise",
        "theory note, sections 7 and 8",
        "Gradients are clipped and released as they are.",
        "dynamic",
        "audit",
        opacus(optimizer=optimizers.NoNoise),
        "opacus",
    ),
    Broken(
        "noise-halved",
        "Half the noise",
        "theory note, section 8",
        "The standard deviation is half of what is accounted.",
        "dynamic",
        "audit",
        opacus(optimizer=optimizers.HalfNoise),
        "opacus",
    ),
    Broken(
        "noise-over-batch",
        "Sensitivity off by the batch size",
        "Tramer et al. 2022, arXiv 2202.12219",
        "Noise scaled for the mean is added to the sum: too small by the batch size.",
        "dynamic",
        "audit",
        opacus(optimizer=optimizers.NoiseOverBatch),
        "opacus",
    ),
    Broken(
        "no-clipping",
        "No clipping",
        "Abadi et al. 2016, arXiv 1607.00133, algorithm 1",
        "Noise of sigma C is added to gradients of any size.",
        "dynamic",
        "audit",
        opacus(optimizer=optimizers.NoClipping),
        "opacus",
    ),
    Broken(
        "mean-clipped",
        "Clipping after averaging",
        "Abadi et al. 2016, arXiv 1607.00133, algorithm 1 (clip before averaging)",
        "The mean is clipped to C and gets noise sigma C / B, as if one example moved it by C / B.",
        "dynamic",
        "audit",
        opacus(optimizer=optimizers.MeanClipped),
        "opacus",
    ),
    Broken(
        "loss-scaled",
        "Noise before a rescaling that undoes it",
        "loss scaling as in Micikevicius et al. 2018, arXiv 1710.03740",
        "Noise goes onto gradients multiplied by the loss scale and is divided by it afterwards.",
        "dynamic",
        "audit",
        opacus(optimizer=optimizers.LossScaled),
        "opacus",
    ),
    Broken(
        "private-divisor",
        "Divisor from the number of private rows",
        "Opacus issues 571 and 819; released Opacus as it is",
        "The sum is divided by int(n q): the scale of the noise tells n.",
        "dynamic",
        "audit",
        opacus(optimizer=None, game=DivisorGame()),
        "opacus, 100 rows or 99",
    ),
    Broken(
        "shuffled",
        "Shuffling accounted as Poisson sampling",
        "Chua et al. 2024, arXiv 2403.17673 and 2411.04205; Lebeda et al. 2024, arXiv 2405.20769",
        "Every record is in exactly one batch of an epoch; the accountant takes independent coins.",
        "dynamic",
        "audit",
        opacus(sampling="shuffle", game=ShuffleGame()),
        "opacus, one epoch of 10,000 steps",
    ),
    Broken(
        "augmented",
        "Augmentations counted as separate records",
        "De et al. 2022, arXiv 2204.13650 (who average them within a record)",
        "Eight rows of one record are clipped and sampled each on its own.",
        "dynamic",
        "audit",
        opacus(copies=8, game=CanaryGame(EIGHTFOLD)),
        "opacus, one row a record",
    ),
    Broken(
        "shared-masks",
        "Identical Poisson masks on every rank",
        "theory note, section 4.4: Opacus's distributed sampler with one seed for all processes",
        "Workers draw the same places of their shares: who knows one record knows when the others were drawn.",
        "dynamic",
        "audit",
        opacus(game=RanksGame(Ranks(shared_seed=True)), ranks=Ranks(shared_seed=True)),
        "opacus, eight workers",
    ),
    Broken(
        "half-precision-noise",
        "Floating-point noise on a tiny range",
        "Mironov 2012; Jin et al. 2022, arXiv 2112.05307",
        "Noise drawn in half precision keeps to its own numbers: low bits show the sum under it.",
        "dynamic",
        "audit",
        lambda: ReleaseSubject(half_precision_noise),
        "release",
    ),
)
PROBED = (
    Broken(
        "batch-clipped",
        "Clipping the batch",
        "torch.nn.utils.clip_grad_norm_ in the place of per-example clipping",
        "The summed gradient is clipped to C with noise sigma C: one example can turn it round, which moves it 2 C.",
        "probe",
        "probe.sensitivity",
        opacus(optimizer=optimizers.BatchClipped),
        "opacus",
    ),
    Broken(
        "bias-not-clipped",
        "Bias not clipped",
        "Opacus pull request 751 (norm of biases wrong in ghost clipping)",
        "Vectors of parameters are left out of the clipping.",
        "probe",
        "probe.sensitivity",
        opacus(optimizer=optimizers.FreeBias),
        "opacus",
    ),
    Broken(
        "bare-layer",
        "One layer without noise",
        "theory note, section 8",
        "The last layer's sum is released as it is.",
        "probe",
        "probe.noise-scale",
        opacus(optimizer=optimizers.BareLayer),
        "opacus",
    ),
    Broken(
        "frozen-noise",
        "Noise seed reused every step",
        "theory note, section 4.4 (seeded noise)",
        "The generator is set back before each step; the difference of two steps has no noise.",
        "probe",
        "probe.noise-fresh",
        opacus(optimizer=optimizers.FrozenNoise),
        "opacus",
    ),
    Broken(
        "realised-divisor",
        "Divisor from the realised batch",
        "Opacus issues 571 and 819",
        "The sum is divided by the number of examples drawn: each one moves all others' share, and the noise.",
        "probe",
        "probe.sensitivity",
        opacus(optimizer=optimizers.RealisedDivisor),
        "opacus",
    ),
    Broken(
        "non-finite",
        "Infinite gradients pass the clipping",
        "released Opacus 1.6.0 as it is; found by the probe",
        "An infinite entry times a clipping factor of zero is NaN: one example shows in the release.",
        "probe",
        "probe.non-finite",
        opacus(optimizer=DPOptimizer),
        "opacus",
    ),
    Broken(
        "weighted-mean",
        "Weighted federated mean with unweighted sensitivity",
        "McMahan et al. 2018, arXiv 1710.06963, section 3 (weights capped at 1)",
        "A client with many examples weighs more than the 1 that the noise is made for.",
        "probe",
        "probe.sensitivity",
        lambda: FederatedSubject(FederatedMean(weights=relative_weights)),
        "federated",
    ),
    Broken(
        "missing-shares",
        "Noise shares of absent clients",
        "Kairouz, Liu, Steinke 2021, arXiv 2102.06387, on dropouts",
        "Every client adds its share of the noise; a small round has little.",
        "probe",
        "probe.noise-scale",
        lambda: FederatedSubject(FederatedMean(noise=noise_shares)),
        "federated",
    ),
)
STATIC = (
    Broken(
        "clt-accountant",
        "Central-limit accountant as an upper bound",
        "Bu et al. 2020, arXiv 1911.11607; Opacus issue 384",
        "The GDP figure is below the true epsilon.",
        "static",
        "static.accountant",
        opacus(accountant="gdp"),
        "opacus",
    ),
    Broken(
        "steps-forgotten",
        "Too few steps accounted",
        "Opacus issue 535 (history popped); runs resumed without the accountant's state",
        "The accountant knows the last epoch only.",
        "static",
        "static.steps",
        opacus(after_epoch=patches.forget_history),
        "opacus",
    ),
    Broken(
        "bare-accumulation",
        "Gradient accumulation that skips noise",
        "Opacus's virtual steps done by hand",
        "Half of each batch is stepped without noise before the other half is stepped with it.",
        "static",
        "static.noise-steps",
        opacus(step=patches.accumulate_without_noise),
        "opacus",
    ),
    Broken(
        "batch-norm",
        "Batch normalisation",
        "Opacus's module validator, which refuses the layer",
        "Each example's gradient depends on all others of its batch; a hand-built wrapper accepts the layer.",
        "static",
        "static.module",
        opacus(base=patches.batch_normalised, validate=False),
        "opacus, public validation, scaler and group norm",
    ),
    Broken(
        "replace-one",
        "Replace-one claim from an add-remove accountant",
        "Lebeda et al. 2024, arXiv 2405.20769; theory note, section 4.2",
        "Replacing a record moves the sum by 2 C; the accountant computed one C.",
        "static",
        "static.adjacency",
        opacus(adjacency=Adjacency.REPLACE_ONE),
        "opacus",
    ),
    Broken(
        "weighted-sampler",
        "Weighted sampling accounted as Poisson sampling",
        "Opacus issue 813",
        "Batches of fixed size are drawn with replacement by weights.",
        "static",
        "static.sampler",
        opacus(sampling="weighted"),
        "opacus",
    ),
    Broken(
        "private-early-stopping",
        "Private validation used for early stopping",
        "Papernot, Steinke 2022, arXiv 2110.03620",
        "The released epoch is chosen by its loss on protected rows, without noise.",
        "static",
        "static.selection",
        opacus(after_epoch=patches.stop_on_holdout),
        "opacus, public validation, scaler and group norm",
    ),
    Broken(
        "private-scaler",
        "Scaler fitted on private rows",
        "Ponomareva et al. 2023, arXiv 2303.00654 (preprocessing is part of the mechanism)",
        "Mean and deviation of the private rows shape every gradient and are in the model.",
        "static",
        "preprocessing.not-private",
        opacus(prepare=patches.scale_by_training_rows),
        "opacus, public validation, scaler and group norm",
    ),
    Broken(
        "median-clip",
        "Adaptive clip without budget",
        "Andrew et al. 2021, arXiv 1905.03871 (who pay for the quantile)",
        "The clipping norm is the batch's exact median norm, which no one accounted for.",
        "static",
        "static.clipping",
        opacus(optimizer=optimizers.MedianClip),
        "opacus",
    ),
)
ZOO: tuple[Broken, ...] = (*DYNAMIC, *PROBED, *STATIC)
