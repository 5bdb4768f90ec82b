"""A whole federated training of masks: from rows to a mask and a transcript, or to what canaries left in a view."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np

from ...audit.canaries import CanarySet, Witnessed
from ...audit.errors import ConfigError
from ...audit.seeds import Seeds
from ...audit.types import BoolArray, Claim, Progress, Rows, Trained, silent
from ..federated.canaries import STRENGTH, CanaryClients, Projections, check_kind, directions, public_facts
from ..federated.cohort import draw_cohort, draw_survivors
from ..federated.layout import Flat
from ..federated.local import LocalPlan
from ..federated.partition import PartitionSpec, partition_rows
from ..federated.protection import Protection, View
from ..federated.rounds import Federation, Observer, Schedule
from ..federated.server import ServerState
from ..federated.views import ViewRecorder
from ..federated.wire import WORD, dense_figures, wire_figures
from ..tensors import feature_tensor, label_tensor
from .clients import MaskClients
from .recipe import MaskRecipe, sealed
from .server import BitFederation, Merge
from .training import flatten, write_flat
from .uploads import Upload


@dataclass(frozen=True, slots=True)
class MaskFederation:
    """Everything that shapes a federated mask but its rows and seeds."""

    masks: MaskRecipe
    partition: PartitionSpec
    local: LocalPlan
    schedule: Schedule
    view: View
    upload: Upload
    protection: Protection | None = None
    merge: Merge = "beta"
    reset: int = 1

    def with_masks(self, masks: MaskRecipe) -> MaskFederation:
        """The same with other masks."""
        return replace(self, masks=masks)

    def with_protection(self, protection: Protection) -> MaskFederation:
        """The same with another protection."""
        return replace(self, protection=protection)

    def clients(self, data: Rows, rows: BoolArray, *, seeds: Seeds, device: str) -> MaskClients:
        """The clients of `data.take(rows)` around a fresh model."""
        import torch

        if self.protection is None and self.upload.clamp is None and not rows.any():
            raise ConfigError("the trainer was given no training rows")
        partition = partition_rows(data, self.partition)
        return MaskClients(
            self.masks.build(data, seeds=seeds, device=device),
            feature_tensor(data.features, dtype=torch.float32, device=device),
            label_tensor(data.labels, device=device),
            partition.rows_of(rows),
            partition.clients,
            self.local,
            self.masks.plan,
            self.upload,
        )

    def start(
        self,
        clients: MaskClients,
        schedule: Schedule,
        observers: Sequence[Observer],
        *,
        seeds: Seeds,
        kind: type[Federation] = Federation,
        bits: type[BitFederation] = BitFederation,
    ) -> Federation:
        """The federated loop before its first round. `kind`, and `bits` for uploads of bits, replace the mechanism."""
        state = ServerState.start(flatten(clients.module).cpu().numpy())
        # The loop knows clients by what they answer to; ours answer with scores, bits or flips.
        answering = cast("Any", clients)
        if self.upload.kind != "bits":
            return kind(answering, schedule, self.protection, seeds, state, {}, observers)
        run = bits(answering, schedule, self.protection, seeds, state, {}, observers)
        run.merge, run.reset, run.clamp = self.merge, self.reset, self.upload.clamp
        return run


def fit_masks(
    federation: MaskFederation,
    data: Rows,
    rows: BoolArray,
    *,
    claim: Callable[[int], Claim | None] | None,
    seeds: Seeds,
    device: str,
) -> Trained:
    """Train on `data.take(rows)`. `claim` is asked with the number of masked weights; None claims nothing."""
    import torch

    clients = federation.clients(data, rows, seeds=seeds, device=device)
    recorder = recorder_of_masks(federation, clients, seeds)
    run = federation.start(clients, federation.schedule, [recorder], seeds=seeds)
    run.run()
    write_flat(clients.module, torch.from_numpy(run.weights()).to(device, torch.float32))
    promised = None if claim is None else claim(len(clients.module.scores))
    figures = {**mask_wire_figures(clients, run), **_run_figures(run)}
    trained = sealed(clients.module, data, rows, claim=promised, steps=run.done, device=device, **figures)
    return replace(trained, transcript=recorder.transcript())


def fit_canaries(
    federation: MaskFederation,
    schedule: Schedule,
    data: Rows,
    rows: BoolArray,
    canaries: CanarySet,
    *,
    claim: Claim | None,
    seeds: Seeds,
    device: str,
    progress: Progress = silent,
    kind: type[Federation] = Federation,
) -> Witnessed:
    """Train on `data.take(rows)` and the canaries whose coin is true; what the view of `canaries` shows of them.
    `kind` replaces the mechanism, for broken variants; the claim stays as given."""
    check_kind(canaries)
    view = cast("View", canaries.view)
    clients = federation.clients(data, rows, seeds=seeds, device=device)
    drawn = directions(
        canaries,
        len(flatten(clients.module)),
        law="gaussian",
        natural=lambda: _natural(federation, data, rows, seeds=seeds.at("natural"), device=device),
        seeds=seeds.at("canaries"),
    )
    guests = CanaryClients(drawn, canaries.inside, float(canaries.parameters.get("strength", STRENGTH)))
    observer = Projections(view, guests, schedule)
    run = federation.start(clients, schedule, [observer], seeds=seeds, kind=kind)
    run.guests = guests
    run.run(progress=progress)
    facts = public_facts(federation.protection, schedule, view, len(canaries.inside))
    return Witnessed(observer.transcript(), claim, facts, _run_figures(run))


def mask_wire_figures(clients: MaskClients, run: Federation) -> dict[str, float]:
    """What travelled: every client gets all scores; it sends its scores, bits or flips, or a dense vector of words
    where it adds noise of its own. For bits also what an ideal coder would need."""
    parameters, protection = len(run.state.weights), run.protection
    if protection is not None and protection.client:
        return dense_figures(run, parameters, 0)
    uploads = clients.sent["uploads"]
    down = float(WORD * parameters * run.counts["asked"])
    out = wire_figures(parameters, uploads=uploads, upload_bits=clients.sent["bits"], download_bits=down)
    if clients.upload.kind == "bits":
        out["entropy_bits_per_parameter"] = clients.sent["entropy"] / max(1, uploads)
    return out


def _run_figures(run: Federation) -> dict[str, float]:
    figures = {
        "mean_cohort": run.counts["answered"] / run.schedule.rounds,
        "rejected_updates": float(run.counts["rejected_updates"]),
        "skipped_rounds": float(run.counts["skipped_rounds"]),
    }
    if run.protection is not None:
        figures["noise_multiplier"] = run.protection.central or run.protection.client
    return figures


def recorder_of_masks(federation: MaskFederation, clients: MaskClients, seeds: Seeds) -> ViewRecorder:
    """A recorder with room for everything that the federation's observer will see."""
    how, sends = federation.schedule, 0
    if federation.view == "updates":
        for number in range(how.rounds):
            asked = draw_cohort(clients.names, how.sample_rate, seeds=seeds, round_number=number)
            sends += int(draw_survivors(asked, how.dropout, seeds=seeds, round_number=number).sum())
    return ViewRecorder(federation.view, how.rounds, len(flatten(clients.module)), clients.names, sends)


def _natural(federation: MaskFederation, data: Rows, rows: BoolArray, *, seeds: Seeds, device: str) -> Flat:
    """Uploads (uploads, dimension) of one round of all clients: where natural updates lie."""
    clients = federation.clients(data, rows, seeds=seeds, device=device)
    everyone = np.arange(len(clients.names))
    start = flatten(clients.module).cpu().numpy()
    (part,) = clients.updates(start, {}, everyone, seeds=seeds, round_number=0)
    return part.deltas
