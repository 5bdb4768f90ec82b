"""Seeded label noise. Whether a record's label changes, and to what, is a function of the seed and its id alone."""

from __future__ import annotations

from dataclasses import replace

from ...audit.errors import ConfigError
from ...audit.seeds import Seeds
from .table import Table


def with_label_noise(table: Table, rate: float, *, seeds: Seeds) -> Table:
    """Replace each label with probability `rate` by another class, all others equally likely.

    Independent coins, one a record id: adding, dropping or reordering records changes no other record's label, so the
    noise adds no dependence between records. The ids whose label changed are in `noisy`.
    """
    if rate == 0:
        return table
    if not table.labelled:
        raise ConfigError(f"data.label_noise = {rate}: data {table.name!r} has no labels to change; set it to 0")
    count, stream = len(table.classes), seeds.at("label-noise")
    labels, noisy = table.labels.copy(), []
    for position, record in enumerate(table.records):
        # 128 bits: the upper 64 decide whether, the lower 64 decide to what (bias below classes / 2**64).
        coin, die = divmod(stream.at(record).entropy(), 2**64)
        if coin / 2**64 < rate:
            labels[position] = (labels[position] + 1 + die % (count - 1)) % count
            noisy.append(record)
    return replace(table, labels=labels, noisy=tuple(noisy))
