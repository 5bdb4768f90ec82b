"""Finding values by patterns: what has a form or a checksum is found, and names where the words before them say so."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from .checks import is_card, is_iban, is_ip, is_phone
from .spec import KINDS


@dataclass(frozen=True, slots=True, order=True)
class Span:
    """Characters `start` to `end` of a text hold a value of this kind."""

    start: int
    end: int
    kind: str


Finder = Callable[[str], Iterator[Span]]

EMAIL = re.compile(r"[\w.%+-]+@[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?(?:\.[A-Za-z0-9-]+)*\.[A-Za-z]{2,}")
CARD = re.compile(r"(?<![\w-])\d(?:[ -]?\d){12,18}(?![\w-])")
# Area numbers 000, 666 and 900 to 999, group 00 and serial 0000 were never given out.
SOCIAL_SECURITY = re.compile(r"(?<![\w-])(?!000|666|9)\d{3}([- ])(?!00)\d{2}\1(?!0000)\d{4}(?![\w-])")
IBAN = re.compile(r"(?<!\w)[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?(?!\w)")
IPV4 = re.compile(r"(?<![\w.])\d{1,3}(?:\.\d{1,3}){3}(?!\w|\.\d)")
IPV6 = re.compile(r"(?<![\w:.])(?:[0-9A-Fa-f]{1,4}:|:)(?:[0-9A-Fa-f]{0,4}:){1,6}[0-9A-Fa-f]{0,4}(?![\w:])")
PHONE = re.compile(r"(?<![\w.])(?:\+\d{1,3}[ ./-]?)?(?:\(\d{1,5}\)[ ./-]?)?\d{2,8}(?:[ ./-]\d{2,8}){0,4}(?!\w|\.\d)")
NUMBER = re.compile(r"(?<!\d)\d{4,}(?!\d)")

TITLES = ("Mr", "Mrs", "Ms", "Miss", "Mx", "Dr", "Prof", "Professor", "Sir", "Madam", "Dame", "Lord", "Lady", "Judge")
LEADS = ("of", "by", "from", "for", "to", "with", "and", "dear", "named", "called", "name is", "am", "owner", "patient")
CAPITALISED = (
    "A An The This That These Those It He She We You They I My Our Your His Her Its Their In On At As If When Where "
    "What Which Who No Not And Or But So January February March April May June July August September October November "
    "December Monday Tuesday Wednesday Thursday Friday Saturday Sunday True False None"
)
NO_NAMES = frozenset(CAPITALISED.split())
WORD = r"[^\W\d_a-z](?:[^\W\d_]|['’-](?=[^\W\d_]))+"
"""A word that begins with no plain small letter, and goes on; hyphens and apostrophes within it."""
NAME = re.compile(
    rf"(?<!\w)(?:(?:{'|'.join(TITLES)})\.?|(?:{'|'.join(f'[{w[0]}{w[0].upper()}]{w[1:]}' for w in LEADS)}):?)\s+"
    rf"(?P<name>{WORD}(?:\s+{WORD}){{0,2}})(?!\w)"
)


def find(text: str, kinds: Sequence[str]) -> list[Span]:
    """The values of these kinds in `text`, in order, none overlapping another; see `KINDS` for which one holds.

    Names are capitalised words after a title ("Dr Ada Byron") or a word such as "of", "by", "name is": other names are
    missed, and other capitalised words after such words ("of Python") are taken for names. Phone numbers without area
    code, numbers below 1000 or with separators, identifiers of other countries, and whatever is cut by the end of a row
    are missed too.
    """
    return settled(span for kind in kinds for span in FINDERS[kind](text))


def settled(spans: Iterator[Span] | Sequence[Span]) -> list[Span]:
    """Spans in order without overlaps: the more certain kind holds, then the longer and the earlier one."""
    kept: list[Span] = []
    for span in sorted(spans, key=lambda s: (KINDS.index(s.kind), s.start - s.end, s.start)):
        if all(span.end <= other.start or other.end <= span.start for other in kept):
            kept.append(span)
    return sorted(kept)


def _of(kind: str, *patterns: tuple[re.Pattern[str], Callable[[str], bool]]) -> Finder:
    def finder(text: str) -> Iterator[Span]:
        for pattern, accept in patterns:
            for match in pattern.finditer(text):
                if accept(match.group()):
                    yield Span(match.start(), match.end(), kind)

    return finder


def _any(_: str) -> bool:
    return True


def _ids(text: str) -> Iterator[Span]:
    """Social security numbers, and IBANs: words in capital letters may follow one, so that pieces are cut from its end
    until the checksum holds."""
    yield from _of("id", (SOCIAL_SECURITY, _any))(text)
    for match in IBAN.finditer(text):
        found = match.group()
        while found and not is_iban(found):
            found = found.rpartition(" ")[0]
        if found:
            yield Span(match.start(), match.start() + len(found), "id")


def _names(text: str) -> Iterator[Span]:
    for match in NAME.finditer(text):
        words = list(re.finditer(r"\S+", match.group("name")))
        first = match.start("name")
        while words and words[0].group() in NO_NAMES:
            words.pop(0)
        if words and not any(word.group()[0].islower() for word in words):
            yield Span(first + words[0].start(), first + words[-1].end(), "name")


FINDERS: dict[str, Finder] = {
    "email": _of("email", (EMAIL, _any)),
    "card": _of("card", (CARD, is_card)),
    "id": _ids,
    "ip": _of("ip", (IPV4, is_ip), (IPV6, is_ip)),
    "phone": _of("phone", (PHONE, is_phone)),
    "number": _of("number", (NUMBER, _any)),
    "name": _names,
}
