"""Rule ids of findings and what each one tests; stable names that SARIF, JUnit and control maps hold on to."""

from __future__ import annotations

RULES = {
    "membership.loss": "A record's own loss tells whether it was trained on.",
    "membership.lira": "Shadow models tell whether a record was trained on (likelihood ratio).",
    "membership.rmia": "A few reference models and public records tell whether a record was trained on.",
    "canary.canary": "Crafted mislabelled records, inserted by fair coins, are recognised in the model.",
    "preprocessing.not-private": "Preprocessing was fitted on private rows outside the mechanism; the claim is void.",
}
"""Rules of the built-in attacks and checks; a third-party attack's rule is `membership.<name>` or `canary.<name>`."""
