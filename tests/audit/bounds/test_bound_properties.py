"""What holds for every bound: finite, not negative, monotone, at most its ceiling."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from leakgauge.audit.bounds import (
    Bayesian,
    ClopperPearson,
    ConfusionCounts,
    Gdp,
    GuessCounts,
    GuessSequence,
    KAry,
    KAryMarkov,
    OneRun,
    OneRunAnytime,
    OneRunFdp,
    PairedOutputs,
    Rank,
    RankCounts,
    Sequential,
    SlotCounts,
)
from leakgauge.audit.types import Selection, Validity

quick = settings(max_examples=60, deadline=None)
alphas = st.sampled_from([0.2, 0.05, 0.001, 1e-9])
deltas = st.sampled_from([0.0, 1e-9, 1e-5, 1e-2, 0.3, 0.99])


@st.composite
def guess_counts(draw):
    canaries = draw(st.integers(10, 3000))
    guesses = draw(st.integers(1, canaries))
    return GuessCounts(canaries, guesses, draw(st.integers(0, guesses)))


@st.composite
def confusion_counts(draw):
    members, nonmembers = draw(st.integers(1, 3000)), draw(st.integers(1, 3000))
    return ConfusionCounts(draw(st.integers(0, members)), draw(st.integers(0, nonmembers)), members, nonmembers)


@st.composite
def rank_counts(draw):
    runs, pool = draw(st.integers(1, 3000)), draw(st.integers(2, 10**6))
    return RankCounts(runs, draw(st.integers(0, runs)), pool, draw(st.integers(1, pool)))


@st.composite
def slot_counts(draw):
    slots, pool = draw(st.integers(1, 2000)), draw(st.integers(2, 10**6))
    fill = draw(st.floats(0.001, 0.999))
    return SlotCounts(slots, draw(st.integers(0, slots)), fill, pool, draw(st.integers(1, pool)))


@st.composite
def guess_sequences(draw):
    correct = draw(st.lists(st.booleans(), min_size=1, max_size=80))
    return GuessSequence(tuple(correct), draw(st.integers(max(10, len(correct)), 5000)))


@st.composite
def paired_outputs(draw):
    outputs = st.one_of(st.sampled_from([0.0, 1.0]), st.floats(0, 1))
    inside = draw(st.lists(outputs, min_size=1, max_size=60))
    outside = draw(st.lists(outputs, min_size=len(inside), max_size=len(inside)))
    return PairedOutputs(tuple(inside), tuple(outside))


CASES = [
    (OneRun(), guess_counts()),
    (OneRunFdp(), guess_counts()),
    (ClopperPearson(), confusion_counts()),
    (Gdp(), confusion_counts()),
    (Bayesian(), confusion_counts()),
    (Rank(), rank_counts()),
    (KAry(), slot_counts()),
    (KAryMarkov(), slot_counts()),
    (OneRunAnytime(), guess_sequences()),
    (Sequential(), paired_outputs()),
]
ids = [method.name for method, _ in CASES]


@pytest.mark.parametrize(("method", "counts"), CASES, ids=ids)
def test_finite_and_below_its_ceiling(method, counts):
    @quick
    @given(counts, deltas, alphas)
    def check(outcome, delta, alpha):
        if delta == 0 and method.needs_delta:
            delta = 1e-12
        epsilon = method.epsilon_lower(outcome, delta=delta, alpha=alpha)
        assert math.isfinite(epsilon)
        assert epsilon >= 0
        assert epsilon <= method.ceiling(outcome, delta=delta, alpha=alpha) + 1e-6

    check()


@pytest.mark.parametrize(("method", "counts"), CASES, ids=ids)
def test_falls_with_delta_and_confidence(method, counts):
    @quick
    @given(counts, st.floats(1e-9, 0.5), st.floats(1e-6, 0.2), st.floats(1.0, 20.0))
    def check(outcome, delta, alpha, factor):
        larger = min(0.99, delta * factor)
        first = method.epsilon_lower(outcome, delta=delta, alpha=alpha)
        # The anytime bound forgives whole guesses in steps, so in delta it is monotone only up to its own slack.
        if method.name != "one-run-anytime":
            assert method.epsilon_lower(outcome, delta=larger, alpha=alpha) <= first + 1e-6
        assert method.epsilon_lower(outcome, delta=delta, alpha=alpha / factor) <= first + 1e-6

    check()


@quick
@given(guess_counts(), deltas, alphas)
def test_one_run_grows_with_correct_guesses_and_falls_with_canaries(counts, delta, alpha):
    first = OneRun().epsilon_lower(counts, delta=delta, alpha=alpha)
    if counts.correct < counts.guesses:
        more = GuessCounts(counts.canaries, counts.guesses, counts.correct + 1)
        assert OneRun().epsilon_lower(more, delta=delta, alpha=alpha) >= first - 1e-9
    wider = GuessCounts(counts.canaries + 100, counts.guesses, counts.correct)
    assert OneRun().epsilon_lower(wider, delta=delta, alpha=alpha) <= first + 1e-9


@quick
@given(confusion_counts(), deltas, alphas)
def test_clopper_pearson_does_not_care_which_side_is_called_positive(counts, delta, alpha):
    turned = ConfusionCounts(
        counts.nonmembers - counts.false_positives, counts.false_negatives, counts.nonmembers, counts.members
    )
    method = ClopperPearson()
    assert method.epsilon_lower(counts, delta=delta, alpha=alpha) == pytest.approx(
        method.epsilon_lower(turned, delta=delta, alpha=alpha), abs=1e-9
    )


@quick
@given(guess_sequences(), alphas)
def test_anytime_never_falls_as_more_is_revealed(counts, alpha):
    first = OneRunAnytime().epsilon_lower(counts, delta=0, alpha=alpha)
    for guess in (True, False):
        longer = GuessSequence((*counts.correct, guess), counts.canaries + 1)
        assert OneRunAnytime().epsilon_lower(longer, delta=0, alpha=alpha) >= first - 1e-9


def test_a_bound_says_what_it_is():
    bound = OneRun().certify(
        GuessCounts(1000, 200, 180),
        delta=1e-5,
        confidence=0.95,
        selection=Selection("bonferroni", 4),
        alpha_share=0.5,
    )
    assert bound.alpha == pytest.approx(0.05 / 8)
    assert bound.epsilon == OneRun().epsilon_lower(GuessCounts(1000, 200, 180), delta=1e-5, alpha=bound.alpha)
    assert bound.ceiling > bound.epsilon > 1
    assert bound.to_json()["counts"] == {"canaries": 1000, "guesses": 200, "correct": 180}
    assert bound.to_json()["selection"] == "bonferroni(4)"


def test_validity_and_null_class():
    frequentist, anytime, estimate = Validity.FREQUENTIST, Validity.ANYTIME, Validity.ESTIMATE
    expected = {
        ClopperPearson(): ("approx-dp", frequentist, frequentist),
        OneRun(): ("approx-dp", frequentist, frequentist),
        Rank(): ("approx-dp", frequentist, frequentist),
        Gdp(): ("gdp", frequentist, frequentist),
        OneRunFdp(): ("gdp", frequentist, frequentist),
        OneRunFdp("dp-sgd", 0.01, 1000): ("dp-sgd(q=0.01,T=1000)", frequentist, frequentist),
        Bayesian(): ("approx-dp", Validity.BAYESIAN, Validity.BAYESIAN),
        KAry(): ("approx-dp", frequentist, estimate),
        KAryMarkov(): ("approx-dp", frequentist, frequentist),
        OneRunAnytime(): ("approx-dp", anytime, estimate),
        Sequential(): ("approx-dp", anytime, anytime),
    }
    for method, (null_class, pure, approximate) in expected.items():
        assert (method.null_class, method.validity(0.0), method.validity(1e-5)) == (null_class, pure, approximate)


def test_one_run_never_decreases_with_more_correct_guesses():
    bounds = [
        OneRun().epsilon_lower(GuessCounts(1000, 200, correct), delta=1e-5, alpha=0.05) for correct in range(100, 201)
    ]
    assert bounds == sorted(bounds)
    assert bounds[0] == 0.0 < bounds[-1]
