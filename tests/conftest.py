"""What every test gets: torch's global randomness starts at a place of the test's own, whatever ran before it."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator

import pytest

from leakgauge.audit.seeds import Seeds


@pytest.fixture(autouse=True)
def no_order_dependence(request: pytest.FixtureRequest) -> Iterator[None]:
    # Only where torch is loaded already: importing it here would cost seconds in tests that need none.
    scope = (
        Seeds(0).at("test", request.node.nodeid).torch_scope() if "torch" in sys.modules else contextlib.nullcontext()
    )
    with scope:
        yield
