from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from leakgauge.audit.errors import ConfigError
from leakgauge.audit.types import Rows
from leakgauge.trainers.federated.partition import PartitionSpec, partition_rows


@pytest.mark.parametrize("kind", ["iid", "dirichlet"])
def test_records_that_leave_move_no_other(blobs: Rows, kind: str) -> None:
    spec = PartitionSpec(kind, 7, 0.3, seed=5)  # type: ignore[arg-type]
    whole = partition_rows(blobs, spec).holder
    kept = np.arange(len(blobs)) % 3 != 0
    assert np.array_equal(partition_rows(blobs.take(kept), spec).holder, whole[kept])
    assert set(whole.tolist()) <= set(range(7))


def test_the_seed_and_nothing_else_moves_records(blobs: Rows) -> None:
    one, same, other = (partition_rows(blobs, PartitionSpec("iid", 6, seed=s)).holder for s in (1, 1, 2))
    assert np.array_equal(one, same)
    assert np.mean(one == other) < 0.4  # 1/6 expected; 0.4 is 9 standard deviations away


def test_iid_clients_hold_equal_shares_and_skewed_ones_do_not(blobs: Rows) -> None:
    def skew(spec: PartitionSpec) -> float:
        partition = partition_rows(blobs, spec)
        held = [blobs.labels[rows] for rows in partition.rows_of(np.ones(len(blobs), bool)) if len(rows)]
        return float(np.mean([np.bincount(h, minlength=5).max() / len(h) for h in held]))

    assert skew(PartitionSpec("dirichlet", 6, 0.1)) > skew(PartitionSpec("dirichlet", 6, 100.0)) + 0.2
    sizes = np.bincount(partition_rows(blobs, PartitionSpec("iid", 4)).holder, minlength=4)
    assert sizes.min() > 30  # Binomial(240, 1/4): mean 60, standard deviation 6.7


def test_natural_clients_are_the_groups_and_rows_of_keeps_to_the_mask(blobs: Rows) -> None:
    partition = partition_rows(blobs, PartitionSpec("natural", None))
    assert partition.clients == tuple(sorted(set(blobs.groups or ())))
    inside = np.arange(len(blobs)) % 2 == 0
    held = partition.rows_of(inside)
    assert sorted(np.concatenate(held).tolist()) == np.flatnonzero(inside).tolist()
    for name, rows in zip(partition.clients, held, strict=True):
        assert {(blobs.groups or ())[i] for i in rows} <= {name}


def test_data_without_groups_has_no_natural_clients(blobs: Rows) -> None:
    with pytest.raises(ConfigError, match="'natural' needs a group"):
        partition_rows(dataclasses.replace(blobs, groups=None), PartitionSpec("natural", None))


@pytest.mark.parametrize(
    "wrong", [{"kind": "random"}, {"clients": 0}, {"clients": None}, {"kind": "dirichlet", "concentration": 0.0}]
)
def test_wrong_specs_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        PartitionSpec(**wrong)  # type: ignore[arg-type]
