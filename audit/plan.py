"""Before any training: what the audit will cost, and what it could show at most (DESIGN 5, `plan`)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .config import AttackSection
from .games import Game, Trials
from .registry import BOUNDS
from .trial import bound_method, default_guesses, perfect_counts
from .types import Claim, Mechanism, PrivateTrainer, Trainer

if TYPE_CHECKING:
    from .setting import Setting

CANDIDATE_DELTAS = (1e-4, 1e-5, 1e-6, 1e-7, 1e-8, 1e-9)
DEFAULT_DELTA = 1e-5


@dataclass(frozen=True, slots=True)
class Power:
    """What one attack on one trainer could certify at the judging confidence, next to the claim at the same delta."""

    trainer: str
    attack: str
    canaries: int
    guesses: int
    alpha_share: float
    delta: float
    ceiling: float
    claim: float | None
    advice: str | None

    @property
    def can_refute(self) -> bool | None:
        """Whether a perfect attack would refute the claim; None without a claim."""
        return None if self.claim is None else self.ceiling > self.claim


def delta_to_test(
    fixed: float | None,
    claim: Claim | None,
    canaries: int,
    section: AttackSection,
    share: float,
    confidence: float,
) -> float:
    """The delta at which an attack tests the claim's curve: the file's, or the one with most room between the design's
    ceiling and the claim. It depends on the design only, so it is fixed before the truth is known."""
    if fixed is not None:
        return fixed
    if claim is None:
        return DEFAULT_DELTA
    known = {claim.delta, *(p.delta for p in claim.curve)}
    deltas = [d for d in CANDIDATE_DELTAS if d >= min(known)] or [claim.delta]
    guesses = section.guesses or default_guesses(canaries)
    rooms = {
        d: ceiling_of(section, claim.mechanism, canaries, guesses, d, share, confidence) - claim.epsilon_at(d)
        for d in deltas
    }
    return max(rooms, key=lambda d: rooms[d])


def ceiling_of(
    section: AttackSection,
    mechanism: Mechanism,
    canaries: int,
    guesses: int,
    delta: float,
    share: float,
    confidence: float,
) -> float:
    """Epsilon that a perfect attack would certify on this design."""
    method = bound_method(section.bound or "one-run", mechanism)
    counts = perfect_counts(method, canaries, guesses)
    ceiling: float = method.ceiling(counts, delta=delta, alpha=(1 - confidence) * share)
    return ceiling


def advice_for(canaries: int, claim: Claim, share: float, confidence: float) -> str:
    """Guesses, delta and if need be canaries with which a perfect attack could refute the claim; or that none do."""
    method = BOUNDS.load("one-run")()
    known = min({claim.delta, *(p.delta for p in claim.curve)})
    deltas = [d for d in CANDIDATE_DELTAS if d >= known] or [claim.delta]
    for size in (canaries, 1000, 2000, 5000, 10_000, 50_000):
        if size < canaries:
            continue
        for delta in deltas:
            for guesses in (size // 5, size // 3, size // 2, size):
                counts = perfect_counts(method, size, guesses)
                ceiling = method.ceiling(counts, delta=delta, alpha=(1 - confidence) * share)
                if ceiling > claim.epsilon_at(delta):
                    return f"{size} canaries, {guesses} guesses, delta {delta:g}: ceiling {ceiling:.2f}"
    return f"no one-run design up to 50000 canaries can refute epsilon {claim.epsilon:g}: audit many runs instead"


def powers(setting: Setting) -> list[Power]:
    """The ceiling of every attack on every trainer."""
    from .canaries import CanaryAttack
    from .setting import canary_claim, of_unit

    rows = []
    for identity, trainer in setting.trainers.items():
        claim = planned_claim(setting, trainer)
        for name in setting.attacks_on(identity):
            attack = setting.attacks[name]
            if isinstance(attack, Game):
                rows += _game_power(setting, identity, claim, name)
                continue
            hosted = isinstance(attack, CanaryAttack)
            here = canary_claim(setting, identity, name) if hosted else of_unit(claim, attack)
            rows.append(_power(setting, identity, here, name))
    return rows


def _game_power(setting: Setting, trainer: str, claim: Claim | None, name: str) -> list[Power]:
    """The ceiling of a game that says beforehand what it will count; nothing for one that only measures."""
    from .setting import alpha_share

    planned = getattr(setting.attacks[name], "planned", None)
    found = planned(setting.trainers[trainer]) if callable(planned) else None
    if found is None:
        return []
    parts = {name: found} if isinstance(found, Trials) else {f"{name}/{part}": each for part, each in found.items()}
    share = alpha_share(setting, name, trainer) / max(1, len(parts))
    alpha = (1 - setting.config.audit.violation_confidence) * share
    # Without a claim on groups a bound on several records together is not reported.
    told = {label: trials for label, trials in parts.items() if trials.group == 1 or trials.claim is not None}
    return [_part_power(trainer, label, trials, trials.claim or claim, share, alpha) for label, trials in told.items()]


def _part_power(trainer: str, label: str, trials: Trials, claim: Claim | None, share: float, alpha: float) -> Power:
    method = bound_method(trials.method, claim.mechanism if claim else Mechanism())
    ceiling = method.ceiling(trials.counts, delta=trials.delta, alpha=alpha)
    runs = int(next(iter(trials.counts.numbers().values())))
    promised = claim.epsilon_at(trials.delta) if claim else None
    return Power(trainer, label, runs, runs, share, trials.delta, ceiling, promised, None)


def _power(setting: Setting, trainer: str, claim: Claim | None, name: str) -> Power:
    from .setting import alpha_share, players

    audit = setting.config.audit
    section, share = setting.sections[name], alpha_share(setting, name, trainer)
    canaries = players(setting, name)
    guesses = section.guesses or default_guesses(canaries)
    delta = delta_to_test(audit.delta, claim, canaries, section, share, audit.violation_confidence)
    mechanism = claim.mechanism if claim else Mechanism()
    ceiling = ceiling_of(section, mechanism, canaries, guesses, delta, share, audit.violation_confidence)
    promised = claim.epsilon_at(delta) if claim else None
    advice = None
    if claim is not None and promised is not None and ceiling <= promised:
        advice = advice_for(canaries, claim, share, audit.violation_confidence)
    return Power(trainer, name, canaries, guesses, share, delta, ceiling, promised, advice)


def planned_claim(setting: Setting, trainer: Trainer) -> Claim | None:
    """The claim a trainer will make, known from public sizes before training."""
    if not isinstance(trainer, PrivateTrainer):
        return None
    return trainer.planned_claim(len(setting.material.universe) // 2)


def price(setting: Setting) -> list[dict[str, Any]]:
    """Models and training steps per trainer, twins included, and a rough guess of the seconds."""
    rows = []
    for identity, trainer in setting.trainers.items():
        models = 1 + setting.shadows_for(identity)
        steps = _steps(setting, trainer)
        seconds = _seconds(trainer, models, steps)
        rows.append({"trainer": identity, "models": models, "steps_a_model": steps, "seconds": seconds})
        if isinstance(trainer, PrivateTrainer):
            rows.append(
                {
                    "trainer": f"{identity} (unprotected twin)",
                    "models": models,
                    "steps_a_model": steps,
                    "seconds": seconds,
                }
            )
    return rows


def _steps(setting: Setting, trainer: Trainer) -> int | None:
    planned = getattr(trainer, "planned_steps", None)
    return int(planned(len(setting.material.universe) // 2)) if callable(planned) else None


STACKED_SECONDS_PER_STEP = 1.6e-4
"""Seconds a step and model, stacked, 64-128-10 network, one core; other models scale roughly with their size."""


def _seconds(trainer: Trainer, models: int, steps: int | None) -> float | None:
    """A trainer whose steps cost much more than a small network's says so by `seconds_a_step()`; None: nobody knows."""
    own = getattr(trainer, "seconds_a_step", None)
    each = own() if callable(own) else STACKED_SECONDS_PER_STEP
    return None if steps is None or each is None else round(models * steps * each, 1)


def plan_json(setting: Setting) -> Mapping[str, Any]:
    """The plan as one document: price and power."""
    rows = [
        {
            "trainer": p.trainer,
            "attack": p.attack,
            "canaries": p.canaries,
            "guesses": p.guesses,
            "alpha_share": p.alpha_share,
            "delta": p.delta,
            "ceiling": p.ceiling,
            "claim": p.claim,
            "can_refute": p.can_refute,
            "advice": p.advice,
        }
        for p in powers(setting)
    ]
    return {"name": setting.config.audit.name, "price": price(setting), "power": rows}
