"""Which attacks play: all registered ones that guess the membership of a data set's own records."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ...audit.errors import ConfigError
from ...audit.games import Game
from ...audit.plugs import build, identity_of
from ...audit.registry import ATTACKS
from ...audit.restaging import with_shadows
from ...audit.store import digest
from ...audit.types import Access, Attack, Unit

VARIANTS: dict[str, dict[str, dict[str, Any]]] = {
    "lira": {
        "lira, fixed": {"variance": "fixed"},
        "lira, per-example": {"variance": "per-example"},
        "lira, bayesian": {"variance": "bayesian"},
        "lira, offline": {"variance": "fixed", "mode": "offline"},
    },
    "rmia": {"rmia, online": {"mode": "online"}, "rmia, offline": {"mode": "offline"}},
}
"""Settings worth a row of their own; any other attack plays with its defaults."""

GRANTED = Access.LOGITS | Access.LOSS | Access.LABELS | Access.WEIGHTS | Access.GRADIENTS


@dataclass(frozen=True, slots=True)
class Entry:
    """A row of the leaderboard: the attack as it plays, and what is printed about its needs."""

    label: str
    name: str
    attack: Attack

    @property
    def needs(self) -> str:
        """Access, shadows, population, queries, in a few words."""
        needs = self.attack.needs
        words = [" + ".join(needs.access.names())]
        words += [f"{needs.shadows} shadows"] if needs.shadows else []
        words += ["population"] if needs.population else []
        return ", ".join([*words, *(f"query {q.name}" for q in needs.queries)])

    def digest(self) -> str:
        """Changes when the attack's settings or its source do."""
        return digest(identity_of(self.attack))


def roster(shadows: int, only: tuple[str, ...] | None = None) -> tuple[list[Entry], dict[str, str]]:
    """The entries, and the registered attacks that do not play with the reason. `ConfigError` for an unknown name.

    An attack without queries gets all `shadows`; one that asks queries keeps its own number, or what there is.
    """
    for name in only or ():
        ATTACKS.load(name)
    entries, skipped = [], {}
    for name in ATTACKS.names() if only is None else only:
        reason = unfit(name)
        if reason:
            skipped[name] = reason
            continue
        for label, parameters in VARIANTS.get(name, {name: {}}).items():
            attack = build(ATTACKS, name, parameters, where=f"bench attacks: {label}")
            wanted = attack.needs.shadows
            count = min(wanted, shadows) if attack.needs.queries else shadows
            entries.append(Entry(label, name, with_shadows(attack, count) if wanted else attack))
    if not entries:
        raise ConfigError(f"bench attacks: none of {', '.join(only or ())} attacks the membership of natural records")
    return entries, skipped


def unfit(name: str) -> str:
    """Why the registered attack `name` cannot play, or nothing."""
    plug = ATTACKS.load(name)
    if not inspect.isclass(plug):
        return "a ready object without parameters"
    try:
        attack: Any = plug()
    except TypeError:
        return "has no defaults"
    facts: Mapping[str, bool] = {
        "plays a game of its own": isinstance(attack, Game) or not hasattr(attack, "score"),
        "crafts canaries": bool(getattr(attack, "crafts_records", False)) or hasattr(attack, "score_canaries"),
        "is not about membership": getattr(attack, "family", None) not in {None, "membership"},
        "attacks another unit": getattr(attack, "unit", Unit.RECORD) is not Unit.RECORD,
        "needs the training transcript": not GRANTED.covers(attack.needs.access),
    }
    return next((reason for reason, holds in facts.items() if holds), "")
