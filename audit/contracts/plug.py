"""What every plug-in owes: a name, immutability, and a specification of plain values."""

from __future__ import annotations

import json
from typing import Any

from ..errors import LeakGaugeError
from ..plugs import identity_of, spec_of
from .failure import ContractError, require


def check_plug(plug: Any, kind: str) -> None:
    """A class-level `name`; a frozen object; a specification that is plain JSON and the same each time."""
    name = getattr(type(plug), "name", None)
    require(isinstance(name, str) and bool(name), f"{kind}: the class needs a name (ClassVar[str]), got {name!r}")
    fields = spec_of(plug)
    for field in fields:
        try:
            setattr(plug, field, getattr(plug, field))
        except (AttributeError, TypeError):
            continue
        raise ContractError(
            f"{kind} {name!r}: field {field!r} can be changed; make it a frozen dataclass, or results could be stored "
            "under a specification that did not make them"
        )
    text = json.dumps(fields)
    require(
        " at 0x" not in text,
        f"{kind} {name!r}: its specification holds an object without a stable text ({text[:120]}); use plain values",
    )
    try:
        first, second = identity_of(plug), identity_of(plug)
    except LeakGaugeError as error:
        raise ContractError(f"{kind} {name!r}: {error}") from None
    require(first == second, f"{kind} {name!r}: its specification changes from one reading to the next")
