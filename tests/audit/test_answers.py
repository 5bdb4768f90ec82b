"""A stack of stored answers reads like the array it stands for, and holds one model at a time."""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from leakgauge.audit.answers import Stack


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> tuple[Stack, np.ndarray]:
    whole = np.random.Generator(np.random.PCG64(1)).random((5, 7, 3), dtype=np.float32)
    folder = tmp_path_factory.mktemp("answers")
    for k, model in enumerate(whole):
        np.save(folder / f"{k}.npy", model)
    return Stack(tuple(folder / f"{k}.npy" for k in range(5))), whole


MASK = np.array([True, False, True, True, False])
INDICES = [
    0,
    -1,
    np.int64(2),
    slice(1, 4),
    slice(None, None, 2),
    (slice(None), slice(2, 5)),
    (slice(1, 3), slice(2, 5), slice(0, 1)),
    (slice(None), 3),
    (slice(None), slice(None), 1),
    (slice(None), [1, 4]),
    (slice(None), np.arange(7), np.array([0, 1, 2, 0, 1, 2, 0])),
    (2, slice(1, 3)),
    (2, 1, 0),
    [3, 0],
    MASK,
    (MASK, 2),
    ([1, 2], [3, 4]),
    ...,
    (..., 0),
    (slice(None), None),
    (slice(0, 0), 1),
]


@pytest.mark.parametrize("index", INDICES, ids=[str(n) for n in range(len(INDICES))])
def test_indexing_is_numpys(stored, index):
    stack, whole = stored
    np.testing.assert_array_equal(np.asarray(stack[index]), whole[index])


def test_views_of_views_shapes_and_iteration(stored):
    stack, whole = stored
    cut, expected = stack[1:][:, 2:][:, 1:4], whole[1:][:, 2:][:, 1:4]
    assert isinstance(cut, Stack)
    assert (cut.shape, cut.ndim, cut.dtype, len(cut)) == (expected.shape, 3, np.float32, 4)
    for one, other in zip(cut, expected, strict=True):
        np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(np.asarray(cut[:, 0], np.float64), expected[:, 0].astype(np.float64))
    np.testing.assert_allclose(np.mean(cut, axis=0), expected.mean(axis=0))
    with pytest.raises(IndexError):
        cut[4]
    with pytest.raises(ValueError, match="without a copy"):
        np.asarray(stack, copy=False)


def test_arithmetic_functions_and_methods_are_numpys(stored):
    stack, whole = stored
    weights = np.arange(3.0)
    np.testing.assert_array_equal(stack * 2 - 1, whole * 2 - 1)
    np.testing.assert_array_equal(1 - stack[1:], 1 - whole[1:])
    np.testing.assert_array_equal(stack.astype(np.float64) @ weights, whole.astype(np.float64) @ weights)
    np.testing.assert_array_equal(np.log(stack), np.log(whole))
    np.testing.assert_array_equal(stack == stack, np.ones(whole.shape, bool))
    assert stack.max() == whole.max()
    assert stack.size == whole.size
    assert not hasattr(stack, "nonsense")


def test_models_are_mapped_read_only_and_arrays_in_memory_do_too(stored):
    stack, whole = stored
    assert isinstance(stack[0], np.memmap)
    with pytest.raises(ValueError, match="read-only"):
        stack[0][0, 0] = 1
    np.testing.assert_array_equal(np.asarray(Stack((whole[0], stack.sources[1]))), whole[:2])


def test_many_more_models_than_files_may_be_open(tmp_path: Path):
    model = np.ones((2, 2), np.float32)
    np.save(tmp_path / "model.npy", model)
    models = resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 4
    code = (
        "import resource, sys, numpy as np\n"
        "from pathlib import Path\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))\n"
        "from leakgauge.audit.answers import Stack\n"
        "stack = Stack((Path(sys.argv[1]),) * int(sys.argv[2]))\n"
        "print(sum(float(each.sum()) for each in stack[:, :1]))\n"
    )
    count = min(models, 500)
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "model.npy"), str(count)], capture_output=True, text=True
    )
    assert done.stdout.strip() == str(2.0 * count), done.stderr
