"""Who takes part in a round: Poisson sampling, clients that drop out, and the seeds of a round and a client."""

from __future__ import annotations

from collections.abc import Sequence

from ...audit.seeds import Seeds
from ...audit.types import BoolArray


def round_seeds(seeds: Seeds, round_number: int) -> Seeds:
    """The stream of one round of one run; rounds count from 0."""
    return seeds.at("round", round_number)


def client_seeds(seeds: Seeds, round_number: int, client: str) -> Seeds:
    """The stream of one client in one round of one run. Clients have names, so that others change nothing."""
    return round_seeds(seeds, round_number).at("client", client)


def draw_cohort(clients: Sequence[str], rate: float, *, seeds: Seeds, round_number: int) -> BoolArray:
    """Which of `clients` are asked in this round, bool (clients,): each by itself with probability `rate`."""
    generator = round_seeds(seeds, round_number).at("sampling").generator()
    drawn: BoolArray = generator.random(len(clients)) < rate
    return drawn


def draw_survivors(asked: BoolArray, dropout: float, *, seeds: Seeds, round_number: int) -> BoolArray:
    """Which of those asked answer, bool (clients,): each fails by itself with probability `dropout`, whatever its
    data."""
    if dropout == 0:
        return asked
    generator = round_seeds(seeds, round_number).at("dropout").generator()
    survivors: BoolArray = asked & (generator.random(len(asked)) >= dropout)
    return survivors
