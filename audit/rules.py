"""Rule ids of findings and what each one tests; stable names that SARIF, JUnit and control maps hold on to."""

from __future__ import annotations

from .checks.aggregation import AGGREGATION_RULES
from .checks.static import STATIC_RULES

ATTACK_RULES = {
    "membership.loss": "A record's own loss tells whether it was trained on.",
    "membership.confidence": "The model's certainty about a record tells whether it was trained on.",
    "membership.entropy": "The entropy of the model's answer tells whether a record was trained on.",
    "membership.modified-entropy": "The label's entropy in the model's answer tells whether a record was trained on.",
    "membership.population": "Public records of the same class tell whether a record was trained on.",
    "membership.difficulty": "A loss below what other models have on the record tells whether it was trained on.",
    "membership.shadow-classifier": "A classifier taught on shadow models tells whether a record was trained on.",
    "membership.meta": "Several attacks, weighed on shadow models, tell whether a record was trained on.",
    "membership.lira": "Shadow models tell whether a record was trained on (likelihood ratio).",
    "membership.rmia": "A few reference models and public records tell whether a record was trained on.",
    "membership.mask-likelihood": "The bits of a mask alone tell whether a record was trained on (shadow masks).",
    "membership.mask-gradient": "Bits on the side of a record's gradient tell whether it was trained on.",
    "canary.canary": "Crafted mislabelled records, inserted by fair coins, are recognised in the model.",
    "canary.text-canary": "Texts inserted by fair coins are recognised in a fine-tuned language model.",
    "exposure.text-rank": "The text that a fine-tuning had is named among many it might have had.",
    "canary.gradient-canary": "Crafted gradients, inserted by fair coins, are recognised in what every step releases.",
    "client.client-canary": "Clients that send known directions, inserted by fair coins, are recognised in the rounds.",
    "membership.federated-membership": "What the rounds of federated training show tells whether a record was used.",
    "attribute.active-membership": "A server that sends crafted weights learns whether a client holds a record.",
    "attribute.label-distribution": "One client's update tells the label shares of its data.",
    "estimate.one-shot": "Normal laws fitted to the projections of canary clients give an epsilon; an estimate only.",
    "inversion.analytic": "The input of a first linear layer is read off its gradient.",
    "inversion.dlg": "An image is rebuilt by matching its gradient in double precision.",
    "inversion.inverting-gradients": "An image is rebuilt by matching the direction of its gradient.",
    "inversion.tabular-inversion": "Categories and numbers of table rows are rebuilt from their gradient.",
    "inversion.mask-inversion": "A client's image is rebuilt from the mask scores, bits or flips that it sends.",
    "inversion.mask-candidates": "One of a few candidate records is named from a client's mask upload.",
    "inversion.imprint": "A malicious server's added layers let images be read off a gradient or a secure sum.",
    "inversion.text-matching": "Token sequences are searched for by matching gradients and swapping words.",
    "inversion.span": "Token sequences are read off the gradients of a transformer.",
    "inversion.matched-filter": "One of a few candidate records is named from a released gradient.",
    "membership.text-membership": "A language model's token probabilities tell whether a text was trained on.",
    "extraction.text-extraction": "The model gives back training text, prompted with its beginning or with nothing.",
    "extraction.pii-completion": "The model completes sentences with the personal data that was in its training text.",
    "exposure.secret-exposure": "A secret in the training text ranks high among all that it might have been.",
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
