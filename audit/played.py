"""Games: the attack plays, the runner bounds what it counted and judges."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from . import document as doc
from .attacked import over_policy
from .bank import Bank, jobs_for, unprotected_twin
from .bounds.method import BoundMethod
from .claims_json import claim_from_json, claim_to_json
from .controls import CONTROL_ALPHA
from .execution import one_thread
from .games import Game, Outcome, Stage, Trials
from .plugs import identity_of
from .registry import BOUNDS
from .setting import Setting, alpha_share
from .store import digest
from .trial import Certified, JudgedBy
from .types import Adjacency, Bound, Claim, Mechanism, Selection, Trainer, Unit
from .verdict import Circumstances, judge


def audit_game(setting: Setting, part: doc.TrainerPart, identity: str, bank: Bank) -> None:
    """One game against one trainer; if it has a bound, then also against the unprotected twin."""
    trainer = setting.trainers[part.identity]
    played = play(setting, bank, trainer, identity, part.claim, part.identity)
    for name in played.get("parts") or [None]:
        _judge_part(setting, part, identity, played, name, bank)


def _judge_part(
    setting: Setting, part: doc.TrainerPart, identity: str, played: Mapping[str, Any], name: str | None, bank: Bank
) -> None:
    """One finding: the whole game, or one of its designs."""
    game: Game = setting.attacks[identity]
    trainer = setting.trainers[part.identity]
    label = identity if name is None else f"{identity}/{name}"
    trials = trials_of(played, name)
    if trials is not None and trials.group > 1 and trials.claim is None:
        trials = None
    certified = negative = twin = how = None
    claim = trials.claim or part.claim if trials else None
    if trials is not None:
        how = judged_by(setting, identity, trials, part.identity)
        how = replace(how, attack=label, alpha_share=how.alpha_share / max(1, len(played.get("parts", {}))))
        certified = certify_trials(trials, how, claim)
        twin = twin_of(setting, bank, trainer, identity, how, part.identity, name)
        part.ledger.append(doc.ledger_row(part.identity, how))
        if trials.redrawn is not None:
            negative = negative_trials(trials, how, claim)
            part.negative.append(doc.negative_figure(part.identity, label, negative))
        if twin is not None:
            part.positive.append(doc.twin_figure(part.identity, label, twin, claim, how))
    here = Circumstances(
        adjacency=trials.adjacency if trials else Adjacency.ADD_REMOVE,
        unit=trials.unit if trials else Unit.RECORD,
        twin_epsilon=twin.judged.epsilon if twin else None,
        negative_failed=negative is not None and negative.epsilon > 0,
        learned=bool(played["informative"]),
        over_policy=over_policy(setting.config, {}, certified),
        reason_without_claim="measured-only" if trials is None else None,
    )
    judgement = judge(claim, certified.judged if certified else None, here)
    # Pictures and examples of the whole game stand in its first finding.
    first = name is None or name == next(iter(played["parts"]))
    shown = ("threat", "series", "examples") if first else ("threat",)
    extra = {key: played[key] for key in shown if played[key]}
    if played["notes"]:
        # Printed where the assumptions are, beside the numbers that they qualify.
        extra["threat"] = {**extra.get("threat", {}), "note": " ".join(played["notes"])}
    part.findings.append(
        doc.finding(
            part,
            label,
            game,
            judgement,
            certified,
            {"measures": measures_of(played, name)},
            how,
            claim=claim,
            extra=extra,
        )
    )


def play(
    setting: Setting, bank: Bank, trainer: Trainer, identity: str, claim: Claim | None, label: str
) -> Mapping[str, Any]:
    """The outcome of the game as plain values; stored, so that a resumed audit plays it once."""
    game, material = setting.attacks[identity], setting.material
    seeds = setting.seeds.at("game", identity)
    target, _ = jobs_for(setting.coins.target, setting.coins.shadows[:0], seeds=setting.seeds)
    key, inputs = played_key(setting, bank, trainer, identity)
    store, reporter = bank.store, bank.reporter
    if not store.has("games", key):
        folder = store.root / "games-in-progress" / key
        folder.mkdir(parents=True, exist_ok=True)
        with reporter.step("attack"), reporter.training(f"{label}: {identity}", 1) as progress:
            stage = Stage(
                trainer=trainer,
                population=material.population,
                private=material.universe.take(_positions(material.audit)),
                inside=setting.coins.target[material.audit],
                target=lambda: bank.trained(trainer, target, f"{label}: target"),
                claim=claim,
                access=setting.access,
                device=bank.device,
                confidence=setting.config.audit.confidence,
                folder=folder,
                progress=progress,
            )
            # Which process plays such a game, and on how many cores, is chance: see `plays`.
            with one_thread(bank.device) if trains_alone(game) else contextlib.nullcontext():
                record = plain(game.play(stage, seeds=seeds))
        with store.writing("games", key, inputs) as final:
            (final / "outcome.json").write_text(json.dumps(record, allow_nan=False), encoding="utf-8")
        shutil.rmtree(folder, ignore_errors=True)
    outcome: dict[str, Any] = json.loads((store.path("games", key) / "outcome.json").read_text(encoding="utf-8"))
    return outcome


def trains_alone(attack: Any) -> bool:
    """Whether the attack is a game that asks no target: it trains models of its own."""
    return isinstance(attack, Game) and not getattr(attack, "needs_target", True)


def played_key(setting: Setting, bank: Bank, trainer: Trainer, identity: str) -> tuple[str, dict[str, Any]]:
    """The store key of a game against a trainer, and what it is the digest of."""
    seeds = setting.seeds.at("game", identity)
    inputs = {
        "game": identity_of(setting.attacks[identity]),
        "trainer": identity_of(trainer),
        "versions": bank.versions,
        "data": setting.material.universe.take(setting.coins.target).fingerprint(),
        "queried": bank.queried_fingerprint,
        "seeds": {"root": seeds.root, "path": list(seeds.path)},
        "confidence": setting.config.audit.confidence,
    }
    return digest(inputs), inputs


def plain(outcome: Outcome) -> dict[str, Any]:
    """An outcome as plain values, as stored."""
    trials = outcome.trials
    return {
        "measures": {name: measure.to_json() for name, measure in outcome.measures.items()},
        "threat": dict(outcome.threat),
        "examples": [example.to_json() for example in outcome.examples],
        "series": [series.to_json() for series in outcome.series],
        "informative": outcome.informative,
        "notes": list(outcome.notes),
        "trials": None if trials is None else _plain_trials(trials),
        "parts": {name: _plain_trials(each) for name, each in outcome.parts.items()},
    }


def _plain_trials(trials: Trials) -> dict[str, Any]:
    return {
        "method": trials.method,
        "counts": trials.counts.numbers(),
        "redrawn": None if trials.redrawn is None else trials.redrawn.numbers(),
        "delta": trials.delta,
        "claim": claim_to_json(trials.claim) if trials.claim else None,
        "unit": str(trials.unit),
        "adjacency": str(trials.adjacency),
        "group": trials.group,
        "measures": list(trials.measures),
    }


def trials_of(played: Mapping[str, Any], name: str | None = None) -> Trials | None:
    """What the game counted, from its stored outcome; with `name`, in that part of it."""
    stored = played["trials"] if name is None else played.get("parts", {}).get(name)
    if stored is None:
        return None
    counts_type = BOUNDS.load(stored["method"]).counts_type
    claim = claim_from_json(stored["claim"]) if stored["claim"] else None
    return Trials(
        stored["method"],
        counts_type(**stored["counts"]),
        stored["delta"],
        claim,
        Unit(stored["unit"]),
        Adjacency(stored["adjacency"]),
        stored.get("group", 1),
        counts_type(**stored["redrawn"]) if stored.get("redrawn") else None,
        tuple(stored.get("measures", ())),
    )


def measures_of(played: Mapping[str, Any], name: str | None) -> dict[str, Any]:
    """The game's measures without those that are about other parts of it than `name`."""
    parts: Mapping[str, Any] = played.get("parts", {})
    foreign = {m for other, part in parts.items() if other != name for m in part.get("measures", ())}
    return {key: value for key, value in played["measures"].items() if key not in foreign}


def judged_by(setting: Setting, identity: str, trials: Trials, trainer: str) -> JudgedBy:
    """How the game's counts are judged: its own method and delta, the ledger's share, the file's confidences."""
    audit = setting.config.audit
    return JudgedBy(
        attack=identity,
        guesses=int(trials.counts.numbers().get("runs", trials.counts.numbers().get("slots", 0))),
        alpha_share=alpha_share(setting, identity, trainer),
        delta=trials.delta,
        method=trials.method,
        confidence=audit.confidence,
        violation_confidence=audit.violation_confidence,
    )


def certify_trials(trials: Trials, how: JudgedBy, claim: Claim | None) -> Certified:
    """The game's counts bounded at both confidences."""
    from .trial import bound_method

    method: BoundMethod[Any] = bound_method(trials.method, claim.mechanism if claim else Mechanism())
    common: dict[str, Any] = {"delta": how.delta, "selection": Selection(), "alpha_share": how.alpha_share}
    return Certified(
        method.certify(trials.counts, confidence=how.confidence, **common),
        method.certify(trials.counts, confidence=how.violation_confidence, **common),
    )


def negative_trials(trials: Trials, how: JudgedBy, claim: Claim | None) -> Bound:
    """What the game's answers certify against truths that no model has seen: it must be 0."""
    alone = replace(how, alpha_share=1.0, violation_confidence=1 - CONTROL_ALPHA)
    return certify_trials(replace(trials, counts=trials.redrawn), alone, claim).judged


def twin_of(
    setting: Setting, bank: Bank, trainer: Trainer, identity: str, how: JudgedBy, label: str, name: str | None = None
) -> Certified | None:
    """What the same game, or part of it, certifies where nothing protects; None without a twin."""
    twin = unprotected_twin(trainer)
    if twin is None:
        return None
    trials = trials_of(play(setting, bank, twin, identity, None, f"{label} unprotected twin"), name)
    # The twin is bounded at the delta of the real game, whatever it would have chosen for itself.
    return None if trials is None else certify_trials(replace(trials, claim=None), how, None)


def _positions(part: slice) -> Any:
    return np.arange(part.start, part.stop)
