"""Who could be a member and what was fixed beforehand; and how useful the models are."""

# Pydantic copies defaults; ruff knows that only where BaseModel itself is the base.
# ruff: noqa: RUF012

from __future__ import annotations

from typing import Literal

from .metrics import Interval
from .part import Count, Part, Probability, Size


class LedgerEntry(Part):
    """The share of the error probability that one attack on one trainer was given, fixed beforehand."""

    trainer: str | None = None
    attack: str
    alpha_share: Probability | None = None
    guesses: Count | None = None
    bound: str | None = None
    delta: Probability | None = None


class Design(Part):
    """Who could be a member, how membership was drawn, and at which confidence things are said."""

    sampling: Literal["coin", "runs", "unknown"]
    audit_records: Count | None = None
    canaries: dict[str, Count] = {}
    population_records: Count | None = None
    expected_members: float | None = None
    shadows: Count | None = None
    confidence: Probability
    violation_confidence: Probability | None = None
    delta: Probability | None = None
    ledger: list[LedgerEntry] = []


class Communication(Part):
    """What a trainer sends while it trains, and the size of what it releases.

    `bits_per_parameter` and `upload_bytes_per_client_round` are of one upload of one client, `upload_bytes` of all
    uploads of the training, `download_bytes` of all models sent to clients; `entropy_bits_per_parameter` is what an
    ideal coder would need for an upload of bits. `released_bytes`: the file of the model.
    """

    trainer: str
    bits_per_parameter: Size | None = None
    entropy_bits_per_parameter: Size | None = None
    upload_bytes_per_client_round: Size | None = None
    upload_bytes: Size | None = None
    download_bytes: Size | None = None
    released_bytes: Size | None = None


class Representation(Part):
    """How good features learned without labels are: linear probes on public rows (on the codes, on raw features, on
    the untrained network's codes), and reconstruction errors of held-out rows beside those of the mean row and of the
    untrained network."""

    probe_rows: int
    test_rows: int
    probe_accuracy: Interval | None = None
    raw_accuracy: Interval | None = None
    untrained_accuracy: Interval | None = None
    reconstruction_error: float
    mean_row_error: float
    untrained_error: float


class Utility(Part):
    """How good the audited model is at its task. For features learned without labels, `test_accuracy` is that of a
    linear probe."""

    trainer: str
    train_accuracy: Interval | None = None
    test_accuracy: Interval | None = None
    train_loss: float | None = None
    test_loss: float | None = None
    majority_share: Probability | None = None
    learned: bool | None = None
    representation: Representation | None = None
