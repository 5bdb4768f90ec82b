"""Canaries that the trainer inserts itself: the runner flips the coins, the trainer trains, the attack reads."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from . import document as doc
from .attacked import Judged, conclude
from .bank import Bank, unprotected_twin, with_public_size
from .canaries import CanaryEvidence, CanaryHost, CanarySet, Witnessed
from .claims_json import claim_from_json, claim_to_json
from .design import coin_flips
from .errors import IncompatibleError
from .plugs import identity_of
from .seeds import Seeds
from .setting import Setting, how_judged
from .store import digest
from .types import Adjacency, Job, Scores


@dataclass(frozen=True, slots=True)
class CanaryRun:
    """One canary attack's experiment, whoever trains: the coins, the data around them, and the streams."""

    setting: Setting
    bank: Bank
    attack: Any
    identity: str
    canaries: CanarySet
    seeds: Seeds

    def witness(self, host: Any, label: str) -> Witnessed:
        """What the observer sees of `host`'s training; stored, so that a resumed audit trains it once."""
        if not isinstance(host, CanaryHost):
            raise IncompatibleError(f"{label}: this trainer inserts no canaries")
        material = self.setting.material
        rows = material.universe.take(np.arange(material.audit.start, material.audit.stop))
        inside = self.setting.coins.target[material.audit]
        inputs = {
            "trainer": identity_of(host),
            "data": rows.take(inside).fingerprint(),
            "canaries": [self.canaries.kind, self.canaries.view, str(sorted(self.canaries.parameters.items()))],
            "coins": self.canaries.inside.astype(int).tolist(),
            "seeds": {"root": self.seeds.root, "path": list(self.seeds.path)},
        }
        store, key, reporter = self.bank.store, digest(inputs), self.bank.reporter
        if not store.has("canaries", key):
            with reporter.step("train"), reporter.training(f"{label}: {self.identity}", 1) as progress:
                seen = host.fit_with_canaries(
                    rows, inside, self.canaries, seeds=self.seeds, device=self.bank.device, progress=progress
                )
            with store.writing("canaries", key, inputs) as folder:
                write_witnessed(folder, seen)
        return read_witnessed(store.path("canaries", key))

    def score(self, seen: Witnessed) -> Scores:
        """The attack's scores of what was seen."""
        evidence = CanaryEvidence(
            self.canaries.ids, seen.transcript, seen.public, self.setting.access, self.canaries.unit
        )
        scores: Scores = self.attack.score_canaries(evidence, seeds=self.setting.seeds.at("attack", self.identity))
        if scores.records != self.canaries.ids:
            raise IncompatibleError(f"attack {self.identity!r} returned scores for other canaries than it was given")
        return scores


def audit_canaries(setting: Setting, part: doc.TrainerPart, identity: str, bank: Bank, out: Path) -> None:
    """One canary attack on one trainer, in a training run of its own; then the same on the unprotected twin."""
    attack = setting.attacks[identity]
    # The same public size as the target's, so that the run with canaries has the target's own mechanism and claim.
    trainer = with_public_size(setting.trainers[part.identity], [Job(setting.coins.target, setting.seeds)])
    seeds = setting.seeds.at("canaries", identity)
    ids = attack.canary_set(np.zeros(attack.canaries, dtype=bool)).ids
    canaries = attack.canary_set(coin_flips(ids, 1, seeds=seeds.at("coins")).inside[0])
    run = CanaryRun(setting, bank, attack, identity, canaries, seeds.at("model"))
    seen = run.witness(trainer, part.identity)
    twin = unprotected_twin(trainer) if seen.claim is not None else None
    twin_scores = None
    if isinstance(twin, CanaryHost):
        twin_scores = run.score(run.witness(twin, f"{part.identity} unprotected twin"))
    judged = Judged(
        seen.claim,
        how_judged(setting, identity, seen.claim, part.identity),
        unit=attack.unit,
        # The trainer plays the game: what it sends for a canary that is out is what its claim's neighbours differ in.
        adjacency=seen.claim.adjacency if seen.claim is not None else Adjacency.ADD_REMOVE,
        # Canaries are found in sums and updates, whatever the model learned beside them; the twin shows the power.
        needs_learning=False,
        twin=twin_scores,
        reason_without_claim="observer-not-covered" if part.claim is not None and seen.claim is None else None,
        extra=extra_of(attack, seen),
    )
    conclude(setting, part, identity, run.score(seen), canaries.inside, judged, out)


def extra_of(attack: Any, seen: Witnessed) -> dict[str, Any]:
    """What a canary finding says beside its bound: the observer in words, and further measures."""
    extra: dict[str, Any] = {}
    if callable(threat := getattr(attack, "threat", None)):
        extra["threat"] = dict(threat())
    if seen.metrics:
        extra["evidence"] = {"run": dict(seen.metrics)}
    return extra


def write_witnessed(folder: Path, seen: Witnessed) -> None:
    """Arrays as safetensors, the rest as JSON."""
    from safetensors.numpy import save_file

    arrays = {k: np.ascontiguousarray(v) for k, v in seen.transcript.items() if isinstance(v, np.ndarray)}
    plain = {
        "transcript": {k: v for k, v in seen.transcript.items() if k not in arrays},
        "claim": claim_to_json(seen.claim) if seen.claim else None,
        "public": dict(seen.public),
        "metrics": dict(seen.metrics),
    }
    save_file(arrays, folder / "transcript.safetensors")
    (folder / "witnessed.json").write_text(json.dumps(plain, indent=1), encoding="utf-8")


def read_witnessed(folder: Path) -> Witnessed:
    """What `write_witnessed` wrote."""
    from safetensors.numpy import load_file

    plain: Mapping[str, Any] = json.loads((folder / "witnessed.json").read_text(encoding="utf-8"))
    claim = claim_from_json(plain["claim"]) if plain["claim"] else None
    transcript = {**plain["transcript"], **load_file(folder / "transcript.safetensors")}
    return Witnessed(transcript, claim, plain["public"], plain["metrics"])
