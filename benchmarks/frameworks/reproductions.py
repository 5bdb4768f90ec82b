"""Ten lines for each finding in flwr 1.41.0, without LeakGauge: for an issue at the project. Run by the tests."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Reproduction:
    """What is wrong, in a sentence, and `code` that shows it by an assertion."""

    title: str
    says: str
    code: str

    def lines(self) -> Iterator[str]:
        """As markdown."""
        yield from (f"### {self.title}", "", self.says, "", "```python", self.code.strip(), "```", "")


_ROUND = """
import numpy as np
from flwr.app import Array, ArrayRecord, Message, MetricRecord, RecordDict
from flwr.serverapp.strategy import {strategy}, FedAvg
from flwr.supercore.task_identity import TaskIdentity
TaskIdentity.run_id = TaskIdentity.task_id = TaskIdentity.node_id = 1
record = lambda x: ArrayRecord({{"w": Array(np.full(1, x, np.float32))}})
def reply(x, examples):
    ask = Message(RecordDict(), 2, "train")
    return Message(RecordDict({{"a": record(x), "m": MetricRecord({{"num-examples": examples}})}}), reply_to=ask)
"""

REPRODUCTIONS = (
    Reproduction(
        "Noise does not follow example weights",
        "The noise is scaled to one client in n, the average weighs by `num-examples`: one client with 1000 examples "
        "among nine with 10 moves the average by 0.917, the standard deviation is 0.1 at noise multiplier 1.",
        _ROUND.format(strategy="DifferentialPrivacyServerSideFixedClipping")
        + """
dp = DifferentialPrivacyServerSideFixedClipping(FedAvg(), 1.0, 1.0, 10)
dp.current_arrays = record(0.0)
one_round = lambda x: dp.aggregate_train(1, [reply(1e-6, 10) for _ in range(9)] + [reply(x, 1000)])[0]["w"].numpy()[0]
out = np.array([[one_round(1e-6), one_round(1.0)] for _ in range(200)])
effective = out.std(axis=0).mean() / np.diff(out.mean(axis=0))[0]
assert effective < 0.2, effective  # claimed: 1.0
""",
    ),
    Reproduction(
        "Adaptive clipping moves the wrong way",
        "Andrew et al. (2021) shrink the clip by the fraction of updates below it; Flower passes the fraction above "
        "it. With every update above the clip it shrinks for ever.",
        _ROUND.format(strategy="DifferentialPrivacyServerSideAdaptiveClipping")
        + """
dp = DifferentialPrivacyServerSideAdaptiveClipping(FedAvg(), 0.0, 2, initial_clipping_norm=0.1)
dp.current_arrays = record(0.0)
for _ in range(10):
    dp.aggregate_train(1, [reply(10.0, 1), reply(10.0, 1)])
assert dp.clipping_norm < 0.04, dp.clipping_norm  # must grow towards 10
""",
    ),
    Reproduction(
        "A zero update stops the round",
        "Clipping divides by the norm of the update.",
        _ROUND.format(strategy="DifferentialPrivacyServerSideFixedClipping")
        + """
dp = DifferentialPrivacyServerSideFixedClipping(FedAvg(), 1.0, 1.0, 2)
dp.current_arrays = record(0.0)
try:
    dp.aggregate_train(1, [reply(0.0, 1), reply(1.0, 1)])
    raise AssertionError("no error")
except ZeroDivisionError:
    pass
""",
    ),
    Reproduction(
        "Noise from the process-wide generator",
        "`np.random.seed`, which training scripts call for reproducibility, fixes the noise.",
        _ROUND.format(strategy="DifferentialPrivacyServerSideFixedClipping")
        + """
dp = DifferentialPrivacyServerSideFixedClipping(FedAvg(), 1.0, 1.0, 2)
dp.current_arrays = record(0.0)
def one_round():
    np.random.seed(0)
    return dp.aggregate_train(1, [reply(1.0, 1), reply(1.0, 1)])[0]["w"].numpy()[0]
assert one_round() == one_round()
""",
    ),
    Reproduction(
        "Adaptive clipping adds noise for the next clip, not for the one it clipped with",
        "The clip is updated before the noise is drawn, so that the noise of a round belongs to another clip than its "
        "updates: where the clip shrinks there is too little.",
        _ROUND.format(strategy="DifferentialPrivacyServerSideAdaptiveClipping")
        + """
def one_round():
    settings = {"initial_clipping_norm": 1.0, "clip_norm_lr": 1.0, "clipped_count_stddev": 0.6}
    dp = DifferentialPrivacyServerSideAdaptiveClipping(FedAvg(), 1.0, 2, **settings)
    dp.clipped_count_stddev = 0.0  # leave the count's own noise out of the picture
    dp.current_arrays = record(0.0)
    out = dp.aggregate_train(1, [reply(10.0, 1), reply(10.0, 1)])[0]["w"].numpy()[0]
    return out, dp.noise_multiplier
out = [one_round() for _ in range(400)]
claimed = out[0][1] * 1.0 / 2  # z C / n with the clip that was in force
assert np.std([o for o, _ in out]) < 0.75 * claimed
""",
    ),
    Reproduction(
        "The accountant's adjacency is not the mechanism's",
        "The accounted mode wants add-or-remove-one and a fixed sample size. Without one client another takes its "
        "place in the sample, so the average moves by up to 2 C / n, twice what is accounted: z is half of the claimed "
        "one.",
        """
clip, n, z = 1.0, 9, 1.0
with_client, without = [-clip] * (n - 1) + [clip], [-clip] * n  # both samples have num_sampled_clients updates
moved = abs(sum(with_client) - sum(without)) / n
effective = (z * clip / n) / moved
assert effective == 0.5
""",
    ),
    Reproduction(
        "LocalDpMod takes epsilon beyond its formula",
        "sqrt(2 ln(1.25 / delta)) / epsilon is proved for epsilon below 1 (Dwork and Roth 2014, theorem A.1). At "
        "epsilon 20, delta 1e-5 the exact epsilon of that noise is above 25.",
        """
import numpy as np
from scipy.stats import norm
epsilon, delta = 20.0, 1e-5
mu = epsilon / np.sqrt(2 * np.log(1.25 / delta))
exact = norm.cdf(mu / 2 - epsilon / mu) - np.exp(epsilon) * norm.cdf(-mu / 2 - epsilon / mu)
assert exact > 50 * delta, exact  # the delta that this noise really has at epsilon 20
""",
    ),
)
"""In the order of importance."""
