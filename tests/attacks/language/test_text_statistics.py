"""Text statistics on a fixed tiny model, a bigram law over bytes, against values worked out by hand."""

from __future__ import annotations

import math
import zlib
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from leakgauge.attacks.language.membership import TextMembership, recall
from leakgauge.attacks.language.neighbours import NeighbourStatistics, swapped_tokens, swapped_words
from leakgauge.attacks.language.prefixed import PrefixedStatistics, public_prefix
from leakgauge.attacks.language.queries import TokenStatistics
from leakgauge.attacks.membership.calibration import likelihood_ratio
from leakgauge.attacks.membership.lira import Lira
from leakgauge.audit.errors import ConfigError, IncompatibleError
from leakgauge.audit.seeds import Seeds
from leakgauge.audit.text import byte_rows
from leakgauge.audit.types import Answers, Evidence, Rows
from leakgauge.trainers.language.target import LanguageTarget
from leakgauge.trainers.language.tokenizer import ByteTokenizer

LAWS = {
    "a": {"a": 1 / 2, "b": 1 / 4, "c": 1 / 4},
    "b": {"a": 1 / 8, "b": 1 / 8, "c": 3 / 4},
    "c": {"a": 1 / 3, "b": 1 / 3, "c": 1 / 3},
    "A": {"a": 1 / 5, "b": 2 / 5, "c": 2 / 5},
    "\n": {"a": 1 / 10, "b": 8 / 10, "c": 1 / 10},
}
"""P[next | this]; what is not named has probability 0."""


class Bigram(torch.nn.Module):
    """A transformers-like causal model whose logits are a table."""

    def __init__(self) -> None:
        super().__init__()
        table = torch.full((257, 257), 1e-30, dtype=torch.float64)
        for before, law in LAWS.items():
            for after, probability in law.items():
                table[ord(before), ord(after)] = probability
        self.table = (table / table.sum(dim=1, keepdim=True)).log()
        self.config = SimpleNamespace(vocab_size=257, max_position_embeddings=8)

    def forward(self, input_ids: torch.Tensor, **options: Any) -> Any:
        """Logits of the next token."""
        return SimpleNamespace(logits=self.table[input_ids], past_key_values=options.get("past_key_values"))


class Wrapped(torch.nn.Module):
    """As `CausalModel`."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = Bigram()

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Logits."""
        return self.inner(tokens).logits


TEXTS = ["abca", "bcc", "Aba"]


def rows_of(texts: list[str], width: int = 8) -> Rows:
    return Rows(byte_rows(texts, width), np.zeros(len(texts), np.int64), tuple(map(str, range(len(texts)))), 1, "texts")


@pytest.fixture(scope="module")
def trained() -> Any:
    target = LanguageTarget(Wrapped(), ByteTokenizer(), 8, "cpu")  # type: ignore[arg-type]
    return SimpleNamespace(target=target, model=target.model)


def evidence_of(trained: Any, attack: TextMembership, texts: list[str]) -> Evidence:
    rows = rows_of(texts)
    none = np.zeros((0, len(texts), 1))
    answers = {}
    for query in attack.needs.queries:
        found = query.ask(trained, rows, seeds=Seeds(2), device="cpu")
        answers[query.name] = Answers(found, found[None][:0], found[:0], found[None][:0])
    return Evidence(
        labels=rows.labels,
        records=rows.records,
        target=np.zeros((len(texts), 1)),
        shadows=none,
        shadow_inside=np.zeros((0, len(texts)), bool),
        population_labels=np.zeros(0, np.int64),
        population_target=np.zeros((0, 1)),
        population_shadows=np.zeros((0, 0, 1)),
        answers=answers,
        features=rows.features,
    )


def scored(trained: Any, statistic: Any, texts: list[str] = TEXTS, **options: Any) -> list[float]:
    attack = TextMembership(statistic=statistic, **options)
    return attack.score(evidence_of(trained, attack, texts), seeds=Seeds(1)).values.tolist()


LN = math.log
BY_HAND = [[LN(1 / 4), LN(3 / 4), LN(1 / 3)], [LN(3 / 4), LN(1 / 3)], [LN(2 / 5), LN(1 / 8)]]
"""ln P of each text's tokens after the first: abca is a>b 1/4, b>c 3/4, c>a 1/3; bcc; Aba is A>b 2/5, b>a 1/8."""


def law_moments(before: str) -> tuple[float, float]:
    """Mean and standard deviation of the log-probability of a drawn token, from the definition."""
    law = LAWS[before].values()
    mean = sum(p * LN(p) for p in law)
    return mean, math.sqrt(sum(p * (LN(p) - mean) ** 2 for p in law))


def test_loss_zlib_and_min_k(trained):
    assert scored(trained, "loss") == pytest.approx([np.mean(t) for t in BY_HAND], rel=1e-5)
    sizes = [len(zlib.compress(t.encode())) for t in TEXTS]
    assert scored(trained, "zlib") == pytest.approx(
        [sum(t) / size for t, size in zip(BY_HAND, sizes, strict=True)], rel=1e-5
    )
    # Of three tokens 0.67 are two, the least likely: 1/4 and 1/3; of two tokens one.
    wanted = [(LN(1 / 4) + LN(1 / 3)) / 2, LN(1 / 3), LN(1 / 8)]
    assert scored(trained, "min-k", share=0.67) == pytest.approx(wanted, rel=1e-5)


def test_min_k_plus_plus(trained):
    standard = []
    for text, logs in zip(TEXTS, BY_HAND, strict=True):
        moments = [law_moments(before) for before in text[:-1]]
        # After c all are alike: deviation 0, which counts as 1e-6, and the numerator is 0 but for float32 rounding.
        standard.append([(log - mean) / max(spread, 1e-6) for log, (mean, spread) in zip(logs, moments, strict=True)])
    # a > b: mean 1/2 ln 1/2 + 1/2 ln 1/4 = -1.5 ln 2, deviation 0.5 ln 2, so ln 1/4 lies one deviation below.
    assert standard[0][0] == pytest.approx(-1.0)
    wanted = [min(standard[0]), None, min(standard[2])]
    found = scored(trained, "min-k++", share=0.34)
    assert [found[0], found[2]] == pytest.approx([wanted[0], wanted[2]], rel=1e-4)
    assert found[2] == pytest.approx((LN(1 / 8) - law_moments("b")[0]) / law_moments("b")[1], rel=1e-4)


def test_lower_case(trained):
    # Aba in lower case is aba: a > b 1/4, b > a 1/8. The others do not change.
    wanted = [-1.0, -1.0, -(LN(2 / 5) + LN(1 / 8)) / (LN(1 / 4) + LN(1 / 8))]
    assert scored(trained, "lower-case") == pytest.approx(wanted, rel=1e-5)


def test_recall_is_the_ratio_of_mean_log_probabilities(trained):
    # A bigram forgets the prefix, so that every ratio is 1 whatever it is.
    assert scored(trained, "recall", prefix="abc") == pytest.approx([1.0] * 3, rel=1e-5)
    assert recall(np.array([[-3.0, -2.0], [-1.0, -2.0], [0.0, 0.0]])).tolist() == [1.5, 0.5, 0.0]


def test_recall_asks_for_the_same_tokens_with_and_without_the_prefix():
    """A model that finds everything half as likely behind a line break."""
    asked = []

    class Listener:
        context = 8

        def encode(self, text: str) -> np.ndarray:
            return np.array(list(text.encode()))

        def encode_rows(self, features: np.ndarray) -> np.ndarray:
            return np.where(features == 256, -1, features)

        def suffix_log_probabilities(self, prefixes: Any, suffixes: Any, sampling: Any) -> np.ndarray:
            asked.append([(bytes(p.tolist()), bytes(s.tolist())) for p, s in zip(prefixes, suffixes, strict=True)])
            return np.array([-len(s) * (1.0 + (10 in p.tolist())) for p, s in zip(prefixes, suffixes, strict=True)])

        decode = continue_greedily = continue_randomly = continue_by_beams = likeliest_tokens = len

    trained = SimpleNamespace(target=Listener())
    found = PrefixedStatistics("xyz\nmore").ask(trained, rows_of(["abcdef", "g", "ab"]), seeds=Seeds(1), device="cpu")  # type: ignore[arg-type]
    # Half of the context of 8 is prefix; four tokens of a record fit behind it, and the first is not counted.
    assert asked == [[(b"xyz\na", b"bcd"), (b"xyz\na", b"b")], [(b"a", b"bcd"), (b"a", b"b")]]
    assert found.tolist() == [[-2.0, -1.0], [0.0, 0.0], [-2.0, -1.0]]


def test_the_prefix_comes_from_public_rows():
    population = rows_of(["first", "second"])
    attack = TextMembership(statistic="recall").informed(population)
    assert attack.prefix == "first\nsecond" == public_prefix(population)
    assert TextMembership(statistic="recall", prefix="own").informed(population).prefix == "own"
    assert TextMembership(statistic="loss").informed(population) == TextMembership(statistic="loss")
    with pytest.raises(ConfigError, match="no public rows of text"):
        TextMembership(statistic="recall").informed(population.take(np.zeros(0, np.int64)))


def test_neighbourhood_by_hand(trained):
    # "ab" has one place to change and "ac" and "aa" as its only likely neighbours: 1/3 and 2/3 of the time.
    statistics = NeighbourStatistics(count=300, swaps=1.0).ask(trained, rows_of(["ab"]), seeds=Seeds(4), device="cpu")
    half, quarter = LN(1 / 2), LN(1 / 4)
    assert set(np.round(statistics[0].astype(float), 4)) <= {round(half, 4), round(quarter, 4)}
    share = np.mean(np.abs(statistics[0] - half) < 1e-3)
    # 300 draws at 2/3: five deviations.
    assert abs(share - 2 / 3) < 5 * math.sqrt(2 / 9 / 300)
    wanted = quarter - statistics[0].mean()
    score = scored(trained, "neighbourhood", ["ab"], neighbours=300, swaps=1.0)
    # The audit's own stream draws other neighbours.
    assert score[0] == pytest.approx(wanted, abs=0.35)
    assert score[0] < 0


def test_swaps_touch_as_many_places_as_stated_and_never_draw_the_token_itself():
    generator = Seeds(1).generator()
    text = np.arange(11)
    likely = np.tile(np.array([3, 5, 20]), (11, 1))
    for share, changed in ((0.01, 1), (0.2, 2), (1.0, 10)):
        out = swapped_tokens(text, likely, np.zeros((11, 3)), share, generator)
        assert (out != text).sum() == changed
        assert out[0] == 0
        assert set(out[out != text]) <= {3, 5, 20}


def test_random_words_leave_everything_else_in_place(trained):
    generator = Seeds(1).generator()
    assert swapped_words("one, two; three!", ["X"], 1.0, generator) == "X, X; X!"
    assert sorted(swapped_words("one, two; three!", ["X"], 0.34, generator).count(c) for c in "X,;!") == [1, 1, 1, 1]
    assert swapped_words("... ", ["X"], 1.0, generator) == "... "
    query = NeighbourStatistics(count=3, swaps=1.0, kind="random-words")
    found = query.ask(trained, rows_of(["ab", "cc", "ab"]), seeds=Seeds(4), device="cpu")
    assert found.shape == (3, 3)
    # Words are ab (P 1/4) and cc (1/3).
    assert set(np.round(found.ravel().astype(float), 4)) <= {round(LN(1 / 4), 4), round(LN(1 / 3), 4)}


def shadow_evidence(seed: int, records: int = 60, shadows: int = 8) -> tuple[Evidence, np.ndarray, np.ndarray]:
    """Token statistics of a target and shadows in which members are 0.5 likelier; also the mean log-probabilities."""
    generator = Seeds(seed).generator()
    inside = np.stack([np.roll(np.arange(records) % 2 == 0, k % 2) for k in range(shadows + 1)])
    flips = generator.random((shadows + 1, records)) < 0.3
    inside = inside ^ flips
    means = -3 + 0.5 * inside + 0.2 * generator.normal(size=inside.shape)
    tokens = np.zeros((shadows + 1, records, 4, 4))
    tokens[:, :, 1:, 0], tokens[:, :, 1:, 3] = means[..., None] + [-1.0, 0.0, 1.0], 1.0
    one = np.zeros((shadows, records, 1))
    evidence = Evidence(
        labels=np.zeros(records, np.int64),
        records=tuple(map(str, range(records))),
        target=one[0],
        shadows=one,
        shadow_inside=inside[1:],
        population_labels=np.zeros(0, np.int64),
        population_target=np.zeros((0, 1)),
        population_shadows=np.zeros((shadows, 0, 1)),
        answers={TokenStatistics.name: Answers(tokens[0], tokens[1:], tokens[0, :0], tokens[1:, :0])},
    )
    return evidence, means, inside


@pytest.mark.parametrize("variance", ["fixed", "global", "per-example", "bayesian"])
def test_lira_on_texts_is_lira_on_their_mean_log_probability(variance):
    evidence, means, inside = shadow_evidence(3)
    found = TextMembership(statistic="lira", shadows=8, variance=variance).score(evidence, seeds=Seeds(1)).values
    two = np.stack([np.zeros_like(means), means], axis=-1)
    two = two - np.logaddexp(two[..., :1], two[..., 1:])
    same = Evidence(
        labels=np.ones(60, np.int64),
        records=evidence.records,
        target=two[0],
        shadows=two[1:],
        shadow_inside=inside[1:],
        population_labels=np.zeros(0, np.int64),
        population_target=np.zeros((0, 2)),
        population_shadows=np.zeros((8, 0, 2)),
    )
    assert found == pytest.approx(Lira(shadows=8, variance=variance).score(same, seeds=Seeds(1)).values, rel=1e-6)
    # Members lie 2.5 deviations above others: an AUC below 0.8 in 60 records would be seven deviations off.
    assert np.mean(found[inside[0]][:, None] > found[~inside[0]]) > 0.8


def test_fixed_lira_against_the_ratio_of_two_normal_laws():
    evidence, means, inside = shadow_evidence(4)
    found = TextMembership(statistic="lira", shadows=8).score(evidence, seeds=Seeds(1)).values
    assert found == pytest.approx(likelihood_ratio("x", means[0], means[1:], inside[1:]), rel=1e-5, abs=1e-6)


def test_mistakes_are_refused(trained):
    with pytest.raises(ConfigError, match="shadows must be an integer >= 2"):
        TextMembership(statistic="lira")
    with pytest.raises(ConfigError, match="proposals must be one of"):
        TextMembership(statistic="neighbourhood", proposals="magic")  # type: ignore[arg-type]
    with pytest.raises(IncompatibleError, match="reads no shadows"):
        TextMembership(statistic="recall", shadows=2)
    with pytest.raises(IncompatibleError, match="causal language model"):
        NeighbourStatistics().ask(SimpleNamespace(target=object()), rows_of(["a"]), seeds=Seeds(1), device="cpu")  # type: ignore[arg-type]
    with pytest.raises(IncompatibleError, match="the evidence has none"):
        TextMembership(statistic="recall", prefix="x").score(
            evidence_of(trained, TextMembership(statistic="loss"), TEXTS), seeds=Seeds(1)
        )
