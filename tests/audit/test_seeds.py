"""The tree of random streams."""

from __future__ import annotations

import numpy as np

from leakgauge.audit.seeds import Seeds


def test_streams_depend_on_root_and_whole_path_only():
    seeds = Seeds(7)
    first = seeds.at("shadow", 3, "noise").generator().random(4)
    seeds.at("something", "else").generator().random(100)
    assert np.array_equal(first, seeds.at("shadow").at(3).at("noise").generator().random(4))


def test_streams_of_different_names_types_and_roots_differ():
    nodes = [Seeds(7, p) for p in ((), ("a",), ("b",), (1,), ("1",), ("a", "b"), ("ab",), ("a,b",))] + [
        Seeds(8, ("a",))
    ]
    assert len({n.entropy() for n in nodes}) == len(nodes)


def test_torch_scope_restores_global_state_and_is_repeatable():
    import torch

    before = torch.random.get_rng_state()
    with Seeds(1).at("init").torch_scope():
        first = torch.randn(3)
    assert torch.equal(before, torch.random.get_rng_state())
    with Seeds(1).at("init").torch_scope():
        assert torch.equal(first, torch.randn(3))
