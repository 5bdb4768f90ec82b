from __future__ import annotations

import itertools
import re

import numpy as np
import pytest

from leakgauge.audit.errors import ConfigError, PrerequisiteError
from leakgauge.audit.seeds import Seeds
from leakgauge.audit.text import TEXT_PADDING, byte_rows
from leakgauge.trainers.language.defences import KINDS, Defences, defend
from leakgauge.trainers.language.defences.checks import is_card, is_iban
from leakgauge.trainers.language.defences.duplicates import duplicates, jaccard, shingles
from leakgauge.trainers.language.defences.patterns import find

WIDTH = 128


def found(text: str, *kinds: str) -> list[tuple[str, str]]:
    return [(s.kind, text[s.start : s.end]) for s in find(text, kinds or KINDS)]


def values(text: str, kind: str) -> list[str]:
    return [value for _, value in found(text, kind)]


def defended(texts: list[str], *, seed: int = 1, inside: list[bool] | None = None, **options) -> tuple[list[str], dict]:
    rows = byte_rows(texts, WIDTH)
    chosen = np.array(inside if inside is not None else [True] * len(texts))
    done = defend(rows, chosen, Defences(**options), seeds=Seeds(seed))
    read = [bytes(row[row < TEXT_PADDING].astype(np.uint8)).decode() for row in done.features]
    return read, {**done.metrics, "inside": done.inside}


@pytest.mark.parametrize(
    ("kind", "text", "wanted"),
    [
        ("email", "write to Ada.Byron+1@mail.example.org, or not", ["Ada.Byron+1@mail.example.org"]),
        ("email", "a decorator @property and x@y are none", []),
        # Published test numbers of card companies.
        ("card", "paid by 4111 1111 1111 1111.", ["4111 1111 1111 1111"]),
        ("card", "378282246310005 and 5555-5555-5555-4444", ["378282246310005", "5555-5555-5555-4444"]),
        ("card", "4111 1111 1111 1112 has a wrong check digit", []),
        ("id", "SSN 219-09-9999", ["219-09-9999"]),
        ("id", "666-09-9999, 219-00-9999 and 219-09-0000 were never given out", []),
        # The example of ISO 13616 and the central bank's German one.
        ("id", "to GB82 WEST 1234 5698 7654 32 NOW", ["GB82 WEST 1234 5698 7654 32"]),
        ("id", "to DE89370400440532013000.", ["DE89370400440532013000"]),
        ("id", "GB83 WEST 1234 5698 7654 32", []),
        ("ip", "from 192.168.10.255, 10.0.0.1.", ["192.168.10.255", "10.0.0.1"]),
        ("ip", "version 1.2.3 or 300.1.1.1", []),
        ("ip", "at fe80::1ff:fe23:4567:890a and 2001:db8::1", ["fe80::1ff:fe23:4567:890a", "2001:db8::1"]),
        ("ip", "every second item x[::2], a::b and std::dead", []),
        ("phone", "call +1 212 555 0123 or (030) 901820-12", ["+1 212 555 0123", "(030) 901820-12"]),
        ("phone", "212-555-0123", ["212-555-0123"]),
        ("phone", "on 2026-11-21, 21.11.2026, in 3.11.4 or 12 34", []),
        ("number", "code 9992, not 123, but a12345b", ["9992", "12345"]),
        ("name", "asked Dr. Ada Byron about it", ["Ada Byron"]),
        ("name", "The pass code of Tusine is 9992; her name is Zoë O'Neill-Smith.", ["Tusine", "Zoë O'Neill-Smith"]),
        ("name", "of The day, of course, by March", []),
    ],
)
def test_each_kind_is_found_and_what_looks_alike_is_not(kind, text, wanted):
    assert values(text, kind) == wanted


def luhn_by_its_definition(digits: str) -> bool:
    total = 0
    for place, digit in enumerate(reversed(digits)):
        value = int(digit) * (2 if place % 2 else 1)
        total += value - 9 if value > 9 else value
    return total % 10 == 0


def test_card_numbers_against_the_check_written_out():
    generator = Seeds(4).generator()
    for length in range(13, 20):
        for _ in range(50):
            digits = "".join(str(d) for d in generator.integers(10, size=length))
            assert is_card(digits) == luhn_by_its_definition(digits)
    assert not is_card("0" * 16)
    assert not is_card("4111 1111")


def test_one_changed_or_two_exchanged_characters_break_an_iban():
    # ISO/IEC 7064 mod 97-10 finds every single substitution and every exchange of neighbours.
    iban = "DE89370400440532013000"
    assert is_iban(iban)
    for place in range(4, len(iban)):
        for digit in "0123456789":
            changed = iban[:place] + digit + iban[place + 1 :]
            assert is_iban(changed) == (changed == iban)
    for place in range(4, len(iban) - 1):
        swapped = iban[:place] + iban[place + 1] + iban[place] + iban[place + 2 :]
        assert is_iban(swapped) == (swapped == iban)


def test_of_overlapping_values_the_more_certain_kind_holds():
    assert found("4111111111111111") == [("card", "4111111111111111")]
    assert found("4111111111111111", "number") == [("number", "4111111111111111")]
    assert found("mail 12345@example.org") == [("email", "12345@example.org")]
    assert found("ring 212-555-0123") == [("phone", "212-555-0123")]


def test_values_are_replaced_by_tags_or_deleted_and_counted():
    texts = ["Mail a@b.org or c@d.org: 1234.", "Nothing here", "Ring 212-555-0123."]
    kinds = ("email", "phone", "number")
    tagged, metrics = defended(texts, scrub=kinds)
    assert tagged == ["Mail <email> or <email>: <number>.", "Nothing here", "Ring <phone>."]
    counts = {"scrubbed_email": 2, "scrubbed_phone": 1, "scrubbed_number": 1, "rows_changed": 2}
    assert {k: v for k, v in metrics.items() if k != "inside"} == counts
    assert defended(texts, scrub=kinds, replacement="delete")[0] == ["Mail  or : .", "Nothing here", "Ring ."]


def test_only_rows_trained_on_are_touched_and_counted():
    texts, metrics = defended(["code 1234", "code 5678"], scrub=("number",), inside=[False, True])
    assert texts == ["code 1234", "code <number>"]
    assert (metrics["scrubbed_number"], metrics["rows_changed"]) == (1, 1)
    assert metrics["inside"].tolist() == [False, True]


def test_rows_keep_their_width_and_bytes_that_are_no_text_pass_unharmed():
    row = np.array([[0xC3, *b" 1234 x", 0xE2, 0x82]], np.int64)
    done = defend(row, np.array([True]), Defences(("number",)), seeds=Seeds(1))
    assert done.features.shape == row.shape
    assert bytes(done.features[0].astype(np.uint8)) == b"\xc3 <number>"
    assert np.array_equal(row, [[0xC3, *b" 1234 x", 0xE2, 0x82]])
    short = defend(row, np.array([True]), Defences(("number",), "delete"), seeds=Seeds(1)).features[0]
    assert short.tolist() == [0xC3, *b"  x", 0xE2, 0x82, *[TEXT_PADDING] * 4]


def test_a_row_is_defended_alike_whatever_the_others_are():
    texts = [f"Code {n} of Mr Smith" for n in range(1000, 1020)]
    options = {"scrub": ("name",), "randomise": 0.5}
    whole, _ = defended(texts, **options)
    alone, _ = defended(["other"] * 7 + texts[7:8] + ["9999"] * 12, **options)
    assert whole[7] == alone[7]
    assert whole == defended(texts, **options)[0]
    assert whole != defended(texts, seed=2, **options)[0]


def test_the_stated_share_of_values_is_drawn_anew_uniformly_in_the_same_form():
    # 4000 values, half of them drawn anew, of which one in 10^4 stays: 5 deviations are 0.04. Chi-squared of the first
    # new digit, 9 degrees: above 9 + 5 * 4.3 less than once in 10^4 (and nine of ten changed values change it).
    texts = ["the code is 1234, mail ab.C1@d-e.org"] * 2000
    after, metrics = defended(texts, randomise=0.5)
    assert metrics["randomised_number"] + metrics["randomised_email"] == pytest.approx(2000, abs=160)
    forms = {re.sub(r"[a-z]", "a", re.sub(r"[A-Z]", "A", re.sub(r"\d", "0", text))) for text in after}
    assert forms == {"aaa aaaa aa 0000, aaaa aa.A0@a-a.aaa"}
    codes = [text[12:16] for text in after]
    assert sum(code != "1234" for code in codes) == pytest.approx(metrics["randomised_number"], abs=3)
    first = np.bincount([int(code[0]) for code in codes if code != "1234"], minlength=10)
    assert ((first - first.mean()) ** 2 / first.mean()).sum() < 9 + 5 * np.sqrt(18)
    untouched, nothing = defended(texts[:5], randomise=1e-9)
    assert untouched == texts[:5]
    assert nothing["randomised_number"] == 0


def test_scrubbed_kinds_are_not_randomised_and_names_never():
    after, metrics = defended(["Dr Smith, 1234, a@b.org"], scrub=("number",), randomise=1.0)
    assert after[0].startswith("Dr Smith, <number>, ")
    assert metrics["randomised_email"] == 1
    assert "randomised_number" not in metrics
    assert "randomised_name" not in metrics


def naive_duplicates(texts: list[str], near: float) -> tuple[list[int], list[int]]:
    kept: list[int] = []
    exact, close = [], []
    for position, text in enumerate(texts):
        if any(texts[k] == text for k in kept):
            exact.append(position)
        elif any(jaccard(shingles(texts[k]), shingles(text)) >= near for k in kept):
            close.append(position)
        else:
            kept.append(position)
    return exact, close


@pytest.mark.parametrize("near", [0.3, 0.5, 0.8, 1.0])
def test_duplicates_are_those_of_comparing_every_pair(near):
    generator = Seeds(7).generator()
    words = ["alpha", "beta", "gamma", "delta", "code", "of", "is", "the"]
    texts = [" ".join(words[k] for k in generator.integers(len(words), size=6)) for _ in range(120)]
    texts += [text.upper() for text in texts[:5]] + texts[10:15] + ["", "", "ab", "abcde"]
    result = duplicates(texts, near)
    exact, close = naive_duplicates(texts, near)
    assert (list(result.exact), list(result.near)) == (exact, close)
    assert len(exact) >= 5
    assert len(close) >= 5


def test_copies_of_a_secret_are_dropped_to_one_and_other_secrets_stay():
    sentences = [f"The pass code of {name} is {code}." for name, code in (("Tusine", 9992), ("Bodine", 1234))]
    texts = [*sentences, "Plain text that stays.", sentences[0], sentences[0].upper(), "Plain text that stays!"]
    _, metrics = defended(texts, deduplicate=True)
    assert metrics["inside"].tolist() == [True, True, True, False, False, False]
    assert (metrics["rows_dropped_exact"], metrics["rows_dropped_near"]) == (1, 2)
    _, half = defended(texts, deduplicate=True, inside=[False, True, True, True, False, False])
    assert half["inside"].tolist() == [False, True, True, True, False, False]


def test_mistakes_are_named():
    with pytest.raises(ConfigError, match="unknown kind 'emial'; did you mean 'email'"):
        Defences(("emial",))
    with pytest.raises(ConfigError, match="randomise is a share"):
        Defences(randomise=1.5)
    with pytest.raises(ConfigError, match="scrub_library must be one of patterns, presidio"):
        Defences(library="spacy")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="scrub_replacement"):
        Defences(replacement="mask")  # type: ignore[arg-type]


@pytest.mark.slow  # importing presidio takes some seconds
def test_presidio_finds_what_has_a_form_without_a_language_model():
    pytest.importorskip("presidio_analyzer", reason="extra scrub is not installed")
    from leakgauge.trainers.language.defences import presidio

    text = (
        "a@example.org 4111 1111 1111 1111, 219-09-9999, GB82 WEST 1234 5698 7654 32, 192.168.1.1, 212-555-1234, 4321"
    )
    spans = presidio.find(text, ("email", "card", "id", "ip", "phone", "number"))
    kinds = [s.kind for s in spans]
    assert kinds == ["email", "card", "id", "id", "ip", "phone", "number"]
    assert all(a.end <= b.start for a, b in itertools.pairwise(spans))
    assert [s for s in presidio.find("x@y.notasuffixatall and 4111 1111 1111 1112", ("email", "card"))] == []


@pytest.mark.slow  # importing spaCy takes some seconds
def test_names_by_presidio_need_a_model_that_is_installed(monkeypatch):
    spacy = pytest.importorskip("spacy", reason="extra scrub is not installed")
    from leakgauge.trainers.language.defences import presidio

    presidio.name_model.cache_clear()
    monkeypatch.setattr(spacy.util, "get_installed_models", list)
    with pytest.raises(PrerequisiteError, match=r"en_core_web_sm.*scrub_library = 'patterns'"):
        presidio.find("Ada Byron", ("name",))
    model = spacy.blank("en")
    model.add_pipe("entity_ruler", name="ner_rules").add_patterns([{"label": "PERSON", "pattern": "Ada Byron"}])
    monkeypatch.setattr(spacy.util, "get_installed_models", lambda: ["toy"])
    monkeypatch.setattr(spacy, "load", lambda name: model)
    assert [(s.start, s.end, s.kind) for s in presidio.find("by Ada Byron.", ("name",))] == [(3, 12, "name")]
    presidio.name_model.cache_clear()
