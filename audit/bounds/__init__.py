"""Certified lower bounds on epsilon, one file a published method. Imports numpy and scipy only.

>>> OneRun().certify(GuessCounts(canaries=1000, guesses=100, correct=90), delta=1e-5, confidence=0.95).epsilon > 1.6
True
"""

from __future__ import annotations

from .bayesian import Bayesian
from .clopper_pearson import ClopperPearson
from .counts import ConfusionCounts, GuessCounts, GuessSequence, PairedOutputs, RankCounts, SlotCounts
from .family import may_decide, refuse_outside_family
from .gdp import Gdp
from .k_ary import KAry
from .k_ary_markov import KAryMarkov
from .method import BoundMethod, error_probability
from .named import certify_named
from .one_run import OneRun
from .one_run_anytime import OneRunAnytime
from .one_run_fdp import OneRunFdp
from .rank import Rank
from .sequential import Sequential

__all__ = [
    "Bayesian",
    "BoundMethod",
    "ClopperPearson",
    "ConfusionCounts",
    "Gdp",
    "GuessCounts",
    "GuessSequence",
    "KAry",
    "KAryMarkov",
    "OneRun",
    "OneRunAnytime",
    "OneRunFdp",
    "PairedOutputs",
    "Rank",
    "RankCounts",
    "Sequential",
    "SlotCounts",
    "certify_named",
    "error_probability",
    "may_decide",
    "refuse_outside_family",
]
