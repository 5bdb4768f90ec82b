"""Static checks: proofs from the record of a run alone that its claim does not follow.

Each check is a pure function of a `TrainingRecord`. It passes, fails with a sentence that names both values, or says
that the record is silent; silence is never a pass.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from ..accounting import dp_sgd_claim
from ..errors import LeakGaugeError
from .record import CheckResult, Clipping, Divisor, Sampler, TrainingRecord

STATIC_RULES = {
    "static.sampler": "Batches are drawn the way the accountant assumes.",
    "static.sample-rate": "No record is drawn more often than accounted.",
    "static.ranks": "Workers draw their batches independently of each other.",
    "static.steps": "No more optimizer steps ran than were accounted.",
    "static.noise-steps": "Every optimizer step added noise.",
    "static.noise-layers": "Every trained parameter got the accounted noise.",
    "static.seed": "The noise generator was never set back and its seed is secret.",
    "static.clipping": "Each unit's own contribution is clipped, all of it, to a norm that is public or paid for.",
    "static.divisor": "The divisor of the noisy sum is public.",
    "static.weights": "No unit weighs more than the sensitivity assumes.",
    "static.accountant": "The accountant gives upper bounds.",
    "static.adjacency": "The accountant's neighbouring relation is the claim's.",
    "static.epsilon": "The claimed epsilon follows from what really ran.",
    "static.group": "All examples made from one unit are accounted for together.",
    "static.module": "No layer mixes the examples of a batch.",
    "static.selection": "No choice was made by looking at private scores.",
    "preprocessing.not-private": "Preprocessing was not fitted on private rows outside the mechanism.",
}
"""Rule ids of the static checks and what passing means."""

NOT_UPPER_BOUNDS = ("gdp", "clt")
"""Accountants known by these words give a central-limit approximation, below the truth by up to one half."""

MIXING_LAYERS = ("BatchNorm", "SyncBatchNorm", "LazyBatchNorm")
"""Layer names that share statistics over a batch, whatever their dimension suffix."""


def run_static_checks(record: TrainingRecord) -> list[CheckResult]:
    """All static checks, in the order of `STATIC_RULES`."""
    return [check(record) for check in _CHECKS]


def failures(results: Iterable[CheckResult]) -> list[CheckResult]:
    """Those that failed; undecided ones are not among them."""
    return [result for result in results if result.passed is False]


def check_sampler(record: TrainingRecord) -> CheckResult:
    """Shuffling, fixed-size or weighted batches are not Poisson sampling (Chua et al. 2024, arXiv 2403.17673)."""
    real, accounted = record.sampler_real, record.sampler_accounted
    if real is None or accounted is None:
        return _silent("static.sampler", "the sampler")
    if accounted is Sampler.NONE or real is accounted:
        return CheckResult("static.sampler", True, f"{real} batches, accounted as {accounted}")
    return CheckResult("static.sampler", False, f"batches were drawn by {real} but accounted as {accounted}")


def check_sample_rate(record: TrainingRecord) -> CheckResult:
    """The real rate may be below the accounted one, not above."""
    return _at_most("static.sample-rate", "sample rate", record.sample_rate_real, record.sample_rate_accounted)


def check_ranks(record: TrainingRecord) -> CheckResult:
    """Ranks that share a sampling seed draw the same positions: inclusion is then correlated across records."""
    if record.ranks == 1:
        return CheckResult("static.ranks", True, "one worker")
    if record.sampling_streams is None:
        return _silent("static.ranks", "how many sampling streams the workers had")
    detail = f"{record.sampling_streams} different sampling streams on {record.ranks} workers"
    return CheckResult("static.ranks", record.sampling_streams >= record.ranks, detail)


def check_steps(record: TrainingRecord) -> CheckResult:
    """Steps by the optimizer's own count against the accountant's history."""
    return _at_most("static.steps", "steps", record.steps_real, record.steps_accounted)


def check_noise_steps(record: TrainingRecord) -> CheckResult:
    """Gradient accumulation must not let a step through without noise."""
    if record.steps_with_noise is None or record.steps_real is None:
        return _silent("static.noise-steps", "how many steps added noise")
    detail = f"{record.steps_with_noise} of {record.steps_real} steps added noise"
    passed = record.steps_with_noise >= record.steps_real
    return CheckResult("static.noise-steps", passed, detail, record.steps_with_noise, record.steps_real)


def check_noise_layers(record: TrainingRecord) -> CheckResult:
    """The least noise over all trained parameters against the accounted multiplier."""
    if not record.parameters or record.noise_multiplier_accounted is None:
        return _silent("static.noise-layers", "the noise of each parameter")
    least = min(record.parameters, key=lambda p: p.noise_multiplier)
    expected = record.noise_multiplier_accounted
    passed = least.noise_multiplier >= expected * (1 - 1e-6)
    detail = f"parameter {least.name!r} has noise multiplier {least.noise_multiplier:g}, accounted {expected:g}"
    return CheckResult("static.noise-layers", passed, detail, least.noise_multiplier, expected)


def check_seed(record: TrainingRecord) -> CheckResult:
    """Two steps from one seed have the same noise, which their difference cancels; a known seed gives it all away."""
    if record.noise_seeds is None:
        return _silent("static.seed", "the noise seeds")
    repeated = len(record.noise_seeds) - len(set(record.noise_seeds))
    if repeated:
        detail = f"{repeated} of {len(record.noise_seeds)} steps reused the noise seed of another"
        return CheckResult("static.seed", False, detail)
    if record.noise_seed_public:
        return CheckResult("static.seed", False, "the noise seed is published with the model")
    return CheckResult("static.seed", True, f"{len(record.noise_seeds)} different noise seeds")


def check_clipping(record: TrainingRecord) -> CheckResult:
    """Clipping the batch or its mean bounds no unit; an unclipped bias or a privately adapted norm do not either."""
    if record.clipping is None:
        return _silent("static.clipping", "what is clipped")
    if record.clipping is not Clipping.UNIT:
        return CheckResult("static.clipping", False, f"clipping is applied to {record.clipping}, not to each unit")
    unclipped = [p.name for p in record.parameters or () if not p.clipped]
    if unclipped:
        return CheckResult("static.clipping", False, f"not clipped: {', '.join(unclipped)}")
    if record.clip_adaptive and not record.clip_budgeted:
        return CheckResult("static.clipping", False, "the clipping norm follows private gradients without a budget")
    return CheckResult("static.clipping", True, "each unit's contribution is clipped")


def check_divisor(record: TrainingRecord) -> CheckResult:
    """Dividing by the realised batch or the private number of rows moves every term (Opacus issues 571, 819)."""
    if record.divisor is None:
        return _silent("static.divisor", "the divisor")
    return CheckResult("static.divisor", record.divisor is Divisor.PUBLIC, f"divisor: {record.divisor}")


def check_weights(record: TrainingRecord) -> CheckResult:
    """A weighted mean has the sensitivity of its largest weight (McMahan et al. 2018, arXiv 1710.06963, section 3)."""
    if record.weights_bounded is None:
        return _silent("static.weights", "how units are weighted")
    detail = "weights are bounded as assumed" if record.weights_bounded else "a unit may weigh more than assumed"
    return CheckResult("static.weights", record.weights_bounded, detail)


def check_accountant(record: TrainingRecord) -> CheckResult:
    """The central-limit GDP figure is below the truth by up to one half (theory: 3.06 for a true 6.48)."""
    if record.accountant is None:
        return _silent("static.accountant", "the accountant")
    words = record.accountant.lower().replace("-", " ").replace("(", " ").split()
    passed = not any(word in NOT_UPPER_BOUNDS for word in words)
    verdict = "gives upper bounds" if passed else "is a central-limit approximation, not an upper bound"
    return CheckResult("static.accountant", passed, f"accountant {record.accountant!r} {verdict}")


def check_adjacency(record: TrainingRecord) -> CheckResult:
    """Replace-one is worth up to two add-remove steps; the accountant must have computed the one that is claimed."""
    if record.accountant_adjacency is None:
        return _silent("static.adjacency", "the accountant's neighbouring relation")
    detail = f"claimed under {record.claim.adjacency}, accounted under {record.accountant_adjacency}"
    return CheckResult("static.adjacency", record.accountant_adjacency is record.claim.adjacency, detail)


def check_epsilon(record: TrainingRecord) -> CheckResult:
    """The claimed epsilon against the PLD of the real rate, steps and least noise, where sampling is Poisson."""
    rate, steps = record.sample_rate_real, record.steps_real
    noises = [p.noise_multiplier for p in record.parameters or ()]
    noise = min(noises) if noises else record.noise_multiplier_accounted
    if rate is None or steps is None or noise is None or record.claim.delta == 0:
        return _silent("static.epsilon", "rate, steps and noise as they were")
    if record.sampler_real not in (Sampler.POISSON, Sampler.FULL_BATCH):
        return _silent("static.epsilon", "Poisson sampling")
    try:
        follows = dp_sgd_claim(
            noise_multiplier=noise,
            sample_rate=1.0 if record.sampler_real is Sampler.FULL_BATCH else rate,
            steps=steps,
            delta=record.claim.delta,
            adjacency=record.claim.adjacency,
        ).epsilon
    except LeakGaugeError as error:
        return CheckResult("static.epsilon", False, f"no epsilon follows from the run: {error}")
    claimed = record.claim.epsilon
    # A per mille for the grids of other accountants' tight figures.
    passed = claimed >= follows * (1 - 1e-3)
    detail = f"claimed epsilon {claimed:.4g}, the run supports {follows:.4g} at delta {record.claim.delta:g}"
    return CheckResult("static.epsilon", passed, detail, claimed, follows)


def check_group(record: TrainingRecord) -> CheckResult:
    """Augmented copies sampled as records of their own make a unit a group."""
    if record.units_per_record is None:
        return _silent("static.group", "how many examples one unit makes")
    detail = f"one unit makes {record.units_per_record} sampled examples, accounted for {record.group_accounted}"
    return CheckResult("static.group", record.units_per_record <= record.group_accounted, detail)


def check_module(record: TrainingRecord) -> CheckResult:
    """By class name; `module.mixes_examples` finds mixing layers of any name."""
    if record.modules is None:
        return _silent("static.module", "the model's layers")
    mixing = sorted({m for m in record.modules if m.startswith(MIXING_LAYERS)})
    detail = f"mixes examples: {', '.join(mixing)}" if mixing else "no batch normalisation"
    return CheckResult("static.module", not mixing, detail)


def check_selection(record: TrainingRecord) -> CheckResult:
    """Early stopping on private validation rows is a query without noise."""
    return _none_of("static.selection", "chosen on private rows", record.selected_on_private)


def check_preprocessing(record: TrainingRecord) -> CheckResult:
    """Scalers, vocabularies and deduplication use public data or are accounted for."""
    return _none_of("preprocessing.not-private", "fitted on private rows", record.fitted_on_private)


_CHECKS: tuple[Callable[[TrainingRecord], CheckResult], ...] = (
    check_sampler,
    check_sample_rate,
    check_ranks,
    check_steps,
    check_noise_steps,
    check_noise_layers,
    check_seed,
    check_clipping,
    check_divisor,
    check_weights,
    check_accountant,
    check_adjacency,
    check_epsilon,
    check_group,
    check_module,
    check_selection,
    check_preprocessing,
)


def _silent(rule: str, what: str) -> CheckResult:
    return CheckResult(rule, None, f"the record does not say {what}")


def _at_most(rule: str, what: str, real: float | None, accounted: float | None) -> CheckResult:
    if real is None or accounted is None:
        return _silent(rule, f"real and accounted {what}")
    passed = real <= accounted * (1 + 1e-9)
    return CheckResult(rule, passed, f"{what}: {real:g} real, {accounted:g} accounted", real, accounted)


def _none_of(rule: str, what: str, names: tuple[str, ...] | None) -> CheckResult:
    if names is None:
        return _silent(rule, f"what was {what}")
    return CheckResult(rule, not names, f"{what}: {', '.join(names) or 'nothing'}")
