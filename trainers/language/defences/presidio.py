"""Finding values with presidio's recognisers (extra `scrub`), called one by one, without a language pipeline.

Names alone need one: a spaCy model with people's names that is installed here. Nothing is fetched.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from typing import Any

from ....audit.errors import PrerequisiteError
from .patterns import FINDERS, Span, settled

LEAST_SCORE = 0.4
"""Presidio's own certainty of a phone number; weaker hits are meant to be raised by words around them."""
INSTALL = "install the extra: pip install leakgauge[scrub], or set scrub_library = 'patterns'"


def find(text: str, kinds: Sequence[str]) -> list[Span]:
    """As `patterns.find`, by presidio for e-mail addresses, cards, ids (US social security numbers, IBANs), network
    addresses and phone numbers, and by a spaCy model for names. Numbers have no recogniser and go by our pattern.

    Raises `PrerequisiteError` where a package or model is missing.
    """
    return settled([span for kind in kinds for span in _found(text, kind)])


def _found(text: str, kind: str) -> Iterator[Span]:
    if kind == "number":
        yield from FINDERS[kind](text)
        return
    if kind == "name":
        yield from (Span(e.start_char, e.end_char, kind) for e in name_model()(text).ents if e.label_ == "PERSON")
        return
    for recogniser in recognisers(kind):
        for result in recogniser.analyze(text, recogniser.supported_entities, None) or ():
            if result.score >= LEAST_SCORE:
                yield Span(result.start, result.end, kind)


@lru_cache
def recognisers(kind: str) -> tuple[Any, ...]:
    """Presidio's recognisers of this kind."""
    try:
        from presidio_analyzer import predefined_recognizers as known
    except ImportError as error:
        raise PrerequisiteError(f"scrub_library = 'presidio' needs presidio-analyzer ({error}): {INSTALL}") from None
    makers: dict[str, tuple[Callable[[], Any], ...]] = {
        "email": (lambda: _offline_email(known.EmailRecognizer),),
        "card": (known.CreditCardRecognizer,),
        "id": (known.UsSsnRecognizer, known.IbanRecognizer),
        "ip": (known.IpRecognizer,),
        "phone": (known.PhoneRecognizer,),
    }
    return tuple(maker() for maker in makers[kind])


def _offline_email(base: Any) -> Any:
    """Presidio checks the domain's ending against a list that it would fetch; here it is the list in the package."""
    import tldextract

    extract = tldextract.TLDExtract(suffix_list_urls=(), cache_dir=None)

    class OfflineEmail(base):  # type: ignore[misc]
        """`EmailRecognizer` that asks nobody."""

        def validate_result(self, pattern_text: str) -> bool:
            """Whether the domain ends in a public suffix."""
            return bool(extract(pattern_text).fqdn)

    return OfflineEmail()


@lru_cache(maxsize=1)
def name_model() -> Any:
    """The first installed spaCy model, by name, that recognises people."""
    try:
        import spacy
    except ImportError as error:
        raise PrerequisiteError(f"scrub = ['name'] by presidio needs spaCy ({error}): {INSTALL}") from None
    for name in sorted(spacy.util.get_installed_models()):
        model: Any = spacy.load(name)
        if any("PERSON" in model.get_pipe(pipe).labels for pipe in model.pipe_names if "ner" in pipe):
            return model
    raise PrerequisiteError(
        "scrub = ['name'] by presidio needs a spaCy model with names, and none is installed: python -m spacy download "
        "en_core_web_sm, or set scrub_library = 'patterns'"
    )
