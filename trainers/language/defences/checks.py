"""Checksums and number ranges that tell identifiers from other digits."""

from __future__ import annotations

import ipaddress
import re

IBAN_LENGTHS = range(15, 35)
DATE = re.compile(r"(?:\d{4}([-./ ])\d{1,2}\1\d{1,2}|\d{1,2}([-./ ])\d{1,2}\2\d{4})")


def digits_of(text: str) -> str:
    """The decimal digits of `text`, ASCII only."""
    return re.sub(r"[^0-9]", "", text)


def is_card(text: str) -> bool:
    """Whether the digits pass the check of card numbers (Luhn, US patent 2 950 048; ISO/IEC 7812): 13 to 19 of them,
    not all alike."""
    digits = [int(d) for d in digits_of(text)]
    if not 13 <= len(digits) <= 19 or len(set(digits)) == 1:
        return False
    doubled = [sum(divmod(2 * d, 10)) for d in digits[-2::-2]]
    return (sum(doubled) + sum(digits[-1::-2])) % 10 == 0


def is_iban(text: str) -> bool:
    """Whether country, check digits and account leave the remainder 1 modulo 97 (ISO 13616, ISO/IEC 7064)."""
    plain = text.replace(" ", "")
    if len(plain) not in IBAN_LENGTHS or not plain.isascii() or not plain.isalnum():
        return False
    number = "".join(str(int(character, 36)) for character in plain[4:] + plain[:4])
    return int(number) % 97 == 1


def is_ip(text: str) -> bool:
    """Whether `text` is an IPv4 or IPv6 address of more than a digit or two: `::1` is Python's slice too."""
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return sum(character.isalnum() for character in text) >= 4


def is_phone(text: str) -> bool:
    """Whether the digits could be a phone number (ITU-T E.164: at most 15) with its area code: 9 or more, 7 after a
    plus; no date, no address of a machine."""
    digits = digits_of(text)
    if DATE.fullmatch(text.strip()) or is_ip(text):
        return False
    return (7 if text.lstrip("(").startswith("+") else 9) <= len(digits) <= 15
