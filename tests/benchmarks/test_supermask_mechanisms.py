from __future__ import annotations

import pytest

from leakgauge.audit.seeds import Seeds
from leakgauge.benchmarks.supermask_mechanisms import Variant, audit, report, variants


@pytest.mark.parametrize("variant", variants(), ids=lambda v: f"{v.name}, {v.broken or 'correct'}")
def test_correct_mechanisms_stay_below_their_claim_and_broken_ones_are_caught(variant: Variant) -> None:
    """The claims are at least 2 above what 1000 games show of a correct mechanism: fails by chance below 1e-9."""
    shown = audit(variant, repeats=4, runs=1000, seeds=Seeds(8))
    assert shown.good
    assert "yes" in report([shown]).splitlines()[-1]
