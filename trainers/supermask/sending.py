"""What single clients would send from given global scores: the same local training and uploads, outside of a round."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from ...audit.bounds.gaussian import gaussian_epsilon
from ...audit.releases import UploadFacts
from ...audit.seeds import Seeds
from ...audit.types import Adjacency, Claim, Mechanism, Unit
from ..federated.sending import RoundSum
from .clients import MaskClients
from .response import response_claim
from .training import flatten
from .uploads import Floats, Upload

if TYPE_CHECKING:
    from torch import Tensor

    from .federation import MaskFederation
    from .module import Masked


def client_uploads(
    federation: MaskFederation, module: Masked, features: Tensor, labels: Tensor, *, uploads: int, seeds: Seeds
) -> Floats:
    """As in `SendsUploads`: (clients, uploads, d). Every upload has its own batches, masks, sampled bits and noise."""
    count, records = labels.shape
    names = [f"client-{k}" for k in range(count)]
    rows = [np.arange(k * records, (k + 1) * records) for k in range(count)]
    clients = MaskClients(
        module,
        features.flatten(0, 1),
        labels.flatten(),
        rows,
        names,
        federation.local,
        federation.masks.plan,
        federation.upload,
    )
    start, private = flatten(module).cpu().numpy(), federation.protection
    out = np.empty((count, uploads, len(start)))
    for number in range(uploads):
        clip = math.inf if private is None else private.clip
        leaving = RoundSum(number, len(start), private, clip, seeds, count)
        for part in clients.updates(start, {}, np.arange(count), seeds=seeds, round_number=number):
            out[part.clients, number] = leaving.add([names[c] for c in part.clients.tolist()], part.deltas)
    return out


def client_scores(
    federation: MaskFederation, module: Masked, features: Tensor, labels: Tensor, *, draws: int, seeds: Seeds
) -> Floats:
    """As in `SendsUploads`: (clients, draws, d), the scores after local training."""
    bare = replace(federation, upload=Upload("scores"), protection=None)
    moved = client_uploads(bare, module, features, labels, uploads=draws, seeds=seeds)
    return np.asarray(moved + flatten(module).double().cpu().numpy(), np.float64)


def upload_facts(federation: MaskFederation, records: int, weights: int, delta: float) -> UploadFacts:
    """As in `SendsUploads`. The claim is that of one upload by itself, seen as it leaves the client: clamped bits, or
    Gaussian noise that the client adds; noise that only the sum of a round carries does not count."""
    plan, sent = federation.masks.plan, federation.upload
    words = {
        "scores": "the change of all mask scores of one client",
        "bits": "one bit a weight of one client, drawn from its score"
        if federation.masks.rule.samples
        else "one bit a weight of one client, the sign of its score",
        "flips": f"at most {sent.budget} changed bits of one client",
    }
    return UploadFacts(
        sent.kind,
        federation.masks.rule.samples,
        sent.clamp,
        None if federation.protection is None else federation.protection.clip,
        plan.optimizer,
        plan.learning_rate,
        federation.local.steps(records),
        _claim(federation, weights, delta),
        f"{words[sent.kind]} ({_guard(federation)})",
    )


def _guard(federation: MaskFederation) -> str:
    """How an upload is protected as it leaves the client, in words."""
    private, clamp = federation.protection, federation.upload.clamp
    if clamp is not None:
        return f"every bit's chance between {0.5 - clamp:g} and {0.5 + clamp:g}"
    if private is None:
        return "nothing is clipped or noised"
    noise = f"noise of {private.client:g} clips on every coordinate" if private.client else "no noise before the sum"
    return f"clipped to norm {private.clip:g}, {noise}"


def _claim(federation: MaskFederation, weights: int, delta: float) -> Claim | None:
    private, clamp = federation.protection, federation.upload.clamp
    if clamp is not None:
        return response_claim(clamp, weights, 1.0, 1, delta)
    if private is None or not private.client or private.discrete:
        return None
    # Replacing the client's data moves a clipped vector by two clips: noise of half the multiplier on the unit change.
    sigma = private.client / 2
    return Claim(
        gaussian_epsilon(1 / sigma, delta),
        delta,
        Unit.CLIENT,
        Adjacency.REPLACE_ONE,
        Mechanism("gaussian", (("noise_multiplier", sigma),)),
        "exact Gaussian curve (Balle and Wang 2018)",
        assumes=("the client's vector is clipped in L2 before its own noise is added",),
    )
