from __future__ import annotations

import numpy as np

from leakgauge.audit.seeds import Seeds


def test_the_process_wide_generator_follows_the_stream_and_is_put_back():
    before = np.random.get_state(legacy=False)["state"]["key"].copy()  # noqa: NPY002
    drawn = []
    for _ in range(2):
        with Seeds(1).at("a").numpy_scope():
            drawn.append(np.random.normal(size=3))  # noqa: NPY002
    with Seeds(1).at("b").numpy_scope():
        other = np.random.normal(size=3)  # noqa: NPY002
    assert np.array_equal(drawn[0], drawn[1])
    assert not np.array_equal(drawn[0], other)
    assert np.array_equal(before, np.random.get_state(legacy=False)["state"]["key"])  # noqa: NPY002
