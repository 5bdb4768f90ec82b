"""Shares of alpha, and the record of attempts."""

from __future__ import annotations

import pytest

from leakgauge.audit.errors import ConfigError
from leakgauge.audit.ledger import read_attempts, record_attempt, share_out


def test_what_is_left_is_split_equally():
    assert share_out({"a": 0.5, "b": None, "c": None}) == {"a": 0.5, "b": 0.25, "c": 0.25}
    assert share_out({"a": None}) == {"a": 1.0}


@pytest.mark.parametrize("requested", [{"a": 0.7, "b": 0.7}, {"a": 1.0, "b": None}])
def test_more_than_everything_is_refused(requested):
    with pytest.raises(ConfigError, match="alpha_share"):
        share_out(requested)


def test_identical_attempts_cost_nothing_and_others_stay_visible(tmp_path):
    path = tmp_path / "ledger.jsonl"
    for digest, seed in (("x", 1), ("x", 1), ("y", 2)):
        record_attempt(path, {"config_digest": digest, "seed": seed})
    assert [a["seed"] for a in read_attempts(path)] == [1, 2]


def test_a_line_cut_short_by_a_kill_is_skipped(tmp_path):
    path = tmp_path / "ledger.jsonl"
    record_attempt(path, {"config_digest": "x"})
    with path.open("a") as stream:
        stream.write('{"config_dig')
    assert len(read_attempts(path)) == 1
