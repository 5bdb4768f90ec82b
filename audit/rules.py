"""Rule ids of findings and what each one tests; stable names that SARIF, JUnit and control maps hold on to."""

from __future__ import annotations

from .checks.aggregation import AGGREGATION_RULES
from .checks.static import STATIC_RULES

ATTACK_RULES = {
    "membership.loss": "A record's own loss tells whether it was trained on.",
    "membership.lira": "Shadow models tell whether a record was trained on (likelihood ratio).",
    "membership.rmia": "A few reference models and public records tell whether a record was trained on.",
    "canary.canary": "Crafted mislabelled records, inserted by fair coins, are recognised in the model.",
    "canary.gradient-canary": "Crafted gradients, inserted by fair coins, are recognised in what every step releases.",
    "inversion.matched-filter": "One of a few candidate records is named from a released gradient.",
    "canary.gradient": "Crafted gradients, inserted by fair coins, are recognised in the noisy sums of training.",
}
"""Rules of the built-in attacks; a third-party attack's rule is `membership.<name>` or `canary.<name>`."""

PROBE_RULES = {
    "probe.sensitivity": "One unit moves a noiseless training step by no more than the claimed sensitivity.",
    "probe.non-finite": "Infinite or NaN gradients of one unit do not break a training step.",
    "probe.empty-batch": "A step with an empty batch adds noise like any other.",
    "probe.noise-scale": "The noise of a step has at least the claimed standard deviation in every coordinate.",
    "probe.noise-fresh": "The noise of one step does not depend on that of others.",
    "probe.noise-shared": "The noise of one coordinate does not depend on that of others.",
    "probe.noise-law": "The noise of a step follows the claimed law.",
}
"""Rules of the probes, which measure single training steps."""

RULES = {**ATTACK_RULES, **STATIC_RULES, **PROBE_RULES, **AGGREGATION_RULES}
"""All rules that LeakGauge itself can report."""
