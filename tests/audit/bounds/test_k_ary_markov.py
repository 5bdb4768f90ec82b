"""`k-ary-markov` against its definition, and against laws that only Markov's inequality covers."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import optimize, stats

from leakgauge.audit.bounds import KAry, KAryMarkov, SlotCounts
from leakgauge.audit.seeds import Seeds
from leakgauge.audit.selftest.exact import first_false

DESIGNS = [(1000, 40, 0.3, 1000, 1, 1e-5), (500, 20, 0.2, 256, 4, 1e-6), (22, 10, 0.5, 10_000, 1, 1e-5)]


def by_definition(slots, hits, fill, pool, top, delta, alpha):
    """The largest epsilon whose tail, minimised over what delta gives away, is at most alpha: by root finding."""

    def tail(epsilon):
        odds = fill / (1 - fill) * math.exp(epsilon) * top / pool
        given = np.arange(1, hits + 1)
        return float(np.min(stats.binom.sf(hits - given, slots, odds / (1 + odds)) + slots * fill * delta / given))

    return optimize.brentq(lambda epsilon: math.log(tail(epsilon)) - math.log(alpha), 0, 60)


@pytest.mark.parametrize("alpha", [0.05, 0.001])
@pytest.mark.parametrize("design", DESIGNS)
def test_is_its_definition(design, alpha):
    slots, hits, fill, pool, top, delta = design
    found = KAryMarkov().epsilon_lower(SlotCounts(slots, hits, fill, pool, top), delta=delta, alpha=alpha)
    assert found == pytest.approx(by_definition(*design, alpha), abs=1e-8)


@pytest.mark.parametrize("design", DESIGNS)
def test_is_k_ary_at_delta_zero_and_below_it_otherwise(design):
    slots, hits, fill, pool, top, delta = design
    counts = SlotCounts(slots, hits, fill, pool, top)
    assert KAryMarkov().epsilon_lower(counts, delta=0, alpha=0.01) == KAry().epsilon_lower(counts, delta=0, alpha=0.01)
    proved = KAryMarkov().epsilon_lower(counts, delta=delta, alpha=0.01)
    assumed = KAry().epsilon_lower(counts, delta=delta, alpha=0.01)
    assert assumed - 0.05 < proved <= assumed


def test_nothing_is_certified_where_delta_alone_explains_it():
    assert KAryMarkov().epsilon_lower(SlotCounts(1000, 3, 0.5, 100, 1), delta=1e-3, alpha=0.05) == 0.0
    assert KAryMarkov().epsilon_lower(SlotCounts(1000, 0, 0.5, 100, 1), delta=1e-3, alpha=0.05) == 0.0


def test_a_law_that_needs_markov_defeats_the_other_formula():
    # delta spent exactly on runs that lack one hit: within what is proved of F, beyond what k-ary assumes of it.
    slots, fill, pool, delta, alpha = 1000, 0.3, 100, 1e-6, 0.001
    odds = fill / (1 - fill) * math.e / pool
    law = stats.binom.pmf(np.arange(slots + 1), slots, odds / (1 + odds))

    def false_claims(method):
        def bound(hits):
            return method.epsilon_lower(SlotCounts(slots, hits, fill, pool, 1), delta=delta, alpha=alpha)

        critical = first_false(bound, slots, 1.0)
        return law[critical:].sum() + min(law[critical - 1], slots * fill * delta)

    assert false_claims(KAryMarkov()) <= alpha < false_claims(KAry())


def test_a_mechanism_that_gives_secrets_away():
    # Each slot's answer is its secret with chance e^epsilon / pool, another candidate otherwise; with chance
    # slots * delta / block a whole block is given away. 4000 audits at nominal 5 %: a sound bound exceeds 5 % + 4
    # standard errors (6.4 %) less than once in 10^4 tests.
    slots, fill, pool, delta, epsilon, block, audits = 200, 0.5, 50, 1e-4, 1.0, 10, 4000
    generator = Seeds(8).at("k-ary").generator()
    filled = generator.random((audits, slots)) < fill
    named = generator.random((audits, slots)) < math.exp(epsilon) / pool
    named[generator.random(audits) < slots * delta / block, :block] = True
    hits = (filled & named).sum(axis=1)
    limits = [
        KAryMarkov().epsilon_lower(SlotCounts(slots, h, fill, pool, 1), delta=delta, alpha=0.05)
        for h in range(slots + 1)
    ]
    assert np.mean(np.array(limits)[hits] > epsilon) <= 0.064
