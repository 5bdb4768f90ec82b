from __future__ import annotations

import json
import math
import zlib
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from leakgauge.attacks.language.membership import TextMembership, least_share
from leakgauge.attacks.language.queries import LoweredStatistics, TokenStatistics, lower_case
from leakgauge.audit.conduct import conduct
from leakgauge.audit.errors import ConfigError, IncompatibleError
from leakgauge.audit.seeds import Seeds
from leakgauge.audit.text import byte_rows
from leakgauge.audit.types import Answers, Evidence, Rows

# Two texts of a model over three symbols. Text 0 has tokens of probability 1/2, 1/4 and 1/8, text 1 one of 1/2.
HALF, QUARTER, EIGHTH = (math.log(1 / n) for n in (2, 4, 8))
UNIFORM = (math.log(1 / 3), 0.0)
SKEWED = (0.5 * HALF + 0.5 * QUARTER, math.sqrt(0.25 * (HALF - QUARTER) ** 2))
"""Probabilities 1/2, 1/4, 1/4: mean log-probability, and its deviation by hand."""
TOKENS = np.array(
    [
        [[0, 0, 0, 0], [HALF, *SKEWED, 1], [QUARTER, *SKEWED, 1], [EIGHTH, *SKEWED, 1]],
        [[0, 0, 0, 0], [HALF, *UNIFORM, 1], [0, 0, 0, 0], [0, 0, 0, 0]],
    ]
)
TEXTS = ["Abcd", "xy"]


def evidence(*, shadows: int = 0, lowered: np.ndarray | None = None) -> Evidence:
    none = np.zeros((0, 4, 4))
    others = np.stack([TOKENS * [k + 2, 1, 1, 1] for k in range(shadows)]) if shadows else np.zeros((0, 2, 4, 4))
    answers = {TokenStatistics.name: Answers(TOKENS, others, none, none)}
    if lowered is not None:
        answers[LoweredStatistics.name] = Answers(lowered, others, none, none)
    return Evidence(
        labels=np.zeros(2, np.int64),
        records=("a", "b"),
        target=np.zeros((2, 1)),
        shadows=np.zeros((shadows, 2, 1)),
        shadow_inside=np.zeros((shadows, 2), bool),
        population_labels=np.zeros(0, np.int64),
        population_target=np.zeros((0, 1)),
        population_shadows=np.zeros((shadows, 0, 1)),
        answers=answers,
        features=byte_rows(TEXTS, 8),
    )


def scored(statistic: Any, seen: Evidence | None = None, **options: Any) -> list[float]:
    attack = TextMembership(statistic=statistic, **options)
    return attack.score(seen or evidence(), seeds=Seeds(1)).values.tolist()


def test_loss_is_the_mean_log_probability():
    assert scored("loss") == pytest.approx([-2 * math.log(2), -math.log(2)])


def test_min_k_is_the_mean_of_the_least_likely_tokens():
    assert scored("min-k", share=0.34) == pytest.approx([EIGHTH, HALF])
    assert scored("min-k", share=0.67) == pytest.approx([(EIGHTH + QUARTER) / 2, HALF])
    assert scored("min-k", share=0.01) == pytest.approx([EIGHTH, HALF])


def test_min_k_plus_plus_standardises_by_the_models_own_law():
    # Mean -1.5 ln 2 and deviation 0.5 ln 2: the tokens lie at 1, -1 and -3 deviations.
    assert pytest.approx((-1.5 * math.log(2), 0.5 * math.log(2))) == SKEWED
    assert scored("min-k++", share=0.34)[0] == pytest.approx(-3)
    assert scored("min-k++", share=0.67)[0] == pytest.approx(-2)
    assert scored("min-k++", share=1.0)[0] == pytest.approx(-1)
    assert math.isfinite(scored("min-k++")[1])


def test_zlib_divides_by_the_compressed_size():
    sizes = [len(zlib.compress(text.encode())) for text in TEXTS]
    assert scored("zlib") == pytest.approx([-6 * math.log(2) / sizes[0], -math.log(2) / sizes[1]])


def test_lower_case_is_the_ratio_of_losses_with_its_sign_turned():
    lowered = TOKENS * [2, 1, 1, 1]
    assert scored("lower-case", evidence(lowered=lowered)) == pytest.approx([-0.5, -0.5])


def test_reference_is_relative_to_the_shadows():
    # Shadows have twice and three times the loss.
    seen = scored("reference", evidence(shadows=2), shadows=2)
    assert seen == pytest.approx([1.5 * 2 * math.log(2), 1.5 * math.log(2)])


def test_least_share_against_a_loop():
    generator = Seeds(2).generator()
    values, known = generator.normal(size=(50, 9)), (generator.random((50, 9)) < 0.7).astype(float)
    for share in (0.1, 0.5, 1.0):
        wanted = []
        for row, mask in zip(values, known, strict=True):
            kept = sorted(row[mask > 0])
            kept = kept[: max(1, math.floor(share * len(kept)))]
            wanted.append(sum(kept) / len(kept) if kept else 0.0)
        assert least_share(values, known, share) == pytest.approx(wanted)


def test_lower_case_touches_capital_letters_only():
    rows = byte_rows(["AZ[@az09 Ä"], 14)
    assert bytes(b for b in lower_case(rows)[0] if b < 256).decode() == "az[@az09 Ä"


def test_queries_ask_the_model_and_mask_what_has_no_value():
    def token_statistics(features: np.ndarray) -> np.ndarray:
        out = np.repeat(features[..., None].astype(float), 3, axis=2)
        out[:, 0] = np.nan
        return out

    names = ("continuation_log_probabilities", "number_log_probabilities", "greedy", "token_log_probabilities")
    model = SimpleNamespace(token_statistics=token_statistics, **dict.fromkeys(names, len))
    rows = Rows(byte_rows(["aB"], 2), np.zeros(1, np.int64), ("0",), 1)
    trained: Any = SimpleNamespace(target=model)
    found = TokenStatistics().ask(trained, rows, seeds=Seeds(1), device="cpu")
    assert found.tolist() == [[[0, 0, 0, 0], [66, 66, 66, 1]]]
    assert LoweredStatistics().ask(trained, rows, seeds=Seeds(1), device="cpu")[0, 1, 0] == 98
    with pytest.raises(IncompatibleError, match="needs a language model"):
        TokenStatistics().ask(SimpleNamespace(target=object()), rows, seeds=Seeds(1), device="cpu")  # type: ignore


def test_mistakes_are_refused():
    with pytest.raises(ConfigError, match="statistic must be one of"):
        TextMembership(statistic="los")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="shadows must be an integer >= 1"):
        TextMembership(statistic="reference")
    with pytest.raises(IncompatibleError, match="reads no shadows"):
        TextMembership(statistic="loss", shadows=2)
    with pytest.raises(IncompatibleError, match="needs 2 shadow models"):
        scored("reference", shadows=2)


AUDIT = """
[audit]
name = "texts"
seed = 5
access = ["logits"]
[data]
name = "prose-private"
text_encoding = "bytes"
text_length = 40
limit = 150
[design]
audit_records = 100
[[trainer]]
name = "language"
layers = 1
width = 32
heads = 2
length = 40
epochs = 30
batch_size = 16
learning_rate = 0.005
"""


def test_texts_that_were_learned_by_heart_are_recognised(tmp_path):
    statistics = ("loss", "zlib", "lower-case", "min-k", "min-k++")
    sections = [f'[[attack]]\nid = "{s}"\nname = "text-membership"\nstatistic = "{s}"\n' for s in statistics]
    path = tmp_path / "audit.toml"
    path.write_text(AUDIT + "".join(sections))
    conduct(path, tmp_path / "out", [], device="cpu", quiet=True, command="test")
    document = json.loads((tmp_path / "out" / "audit.json").read_text())
    found = {f["attack"]: f["metrics"]["auc"]["value"] for f in document["findings"]}
    assert set(found) == set(statistics)
    # Thirty passes over fifty short texts; about 50 members and 50 others, so that an AUC of 0.5 varies by 0.06.
    assert min(found["loss"], found["min-k"], found["min-k++"], found["zlib"]) > 0.8
    assert found["lower-case"] > 0.6
    assert {f["rule"] for f in document["findings"]} == {"membership.text-membership"}
    assert document["controls"]["blind"]["figures"][0]["separates"] is False
