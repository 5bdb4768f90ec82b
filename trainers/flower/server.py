"""The server side: our own federated loop with Flower's grid in place of local training."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np
from flwr.app import Array, ArrayRecord, Context, Message, MessageType, RecordDict
from flwr.serverapp import Grid, ServerApp
from numpy.typing import NDArray

from ...audit.errors import PrerequisiteError
from ...audit.seeds import Seeds
from ..federated.layout import Buffers, Flat
from ..federated.rounds import Federation
from ..federated.sending import RoundSum
from ..federated.server import Floats
from ..federated.stack import CohortUpdates
from ..federated.views import save_transcript
from ..supermask.server import BitFederation
from .client import BUFFER, arrays_in, train_config
from .job import FlowerJob, local_trainer

_POLL = 0.2


@dataclass(frozen=True, slots=True)
class FlowerResult:
    """Final `weights` (dimension,) float64, the `transcript` of the trainer's view, and plain `metrics`."""

    weights: Floats
    transcript: dict[str, Any]
    metrics: dict[str, float]


def build_server_app(job: FlowerJob | None = None, results: list[FlowerResult] | None = None) -> ServerApp:
    """An app that runs the federation; without `job` it reads the run configuration's `job`.

    The result is appended to `results` where the app runs in this process, and written to `job.out` where that is set.
    """
    app = ServerApp()

    @app.main()
    def main(grid: Grid, context: Context) -> None:
        own = FlowerJob.from_json(str(context.run_config["job"])) if job is None else job
        result = run_federation(grid, own)
        if results is not None:
            results.append(result)

    return app


def run_federation(grid: Grid, job: FlowerJob) -> FlowerResult:
    """All rounds of `job` over the nodes of `grid`: the same server code as the trainer's own loop."""
    local, schedule = local_trainer(job.to_json())
    plan = job.plan()
    out = Path(job.out) if job.out else None
    recorder = plan.recorder(schedule, local, None if out is None else out / "rounds", seeds=job.seeds)
    remote = GridTrainer(grid, job, local)
    # It has what the loop uses of a local trainer.
    federation = plan.start(
        remote, schedule, [recorder], seeds=job.seeds, kind=FlowerFederation, bits=FlowerBitFederation
    )
    remote.federation = federation
    remote.connect()
    federation.run()
    metrics: dict[str, float] = {
        **{k: float(v) for k, v in federation.counts.items()},
        "lost_updates": float(remote.lost),
    }
    result = FlowerResult(federation.state.weights, recorder.transcript(), metrics)
    if out is not None:
        _write(result, out)
    return result


class FlowerFederation(Federation):
    """`Federation` whose clients have added their own noise already where the protection asks for it."""

    def round_sum(self, number: int, asked: NDArray[np.int64], answered: int) -> RoundSum:
        """A plain sum of what arrives, where clients protect themselves."""
        if self.protection is None or not self.protection.client:
            return super().round_sum(number, asked, answered)
        return RoundSum(number, len(self.state.weights), None, self.clip, self.seeds, answered)


class FlowerBitFederation(BitFederation):
    """`BitFederation` that counts the uploads which arrived: a share of ones is a share of those."""

    def with_noise(self, number: int, total: Floats) -> Floats:
        """As in `BitFederation`."""
        self._answered = cast("GridTrainer", self.trainer).arrived
        return super().with_noise(number, total)


@dataclass(slots=True)
class GridTrainer:
    """`LocalTrainer` over a Flower grid: `updates` asks the nodes on which the clients live.

    `arrived` counts the updates of the last round, `lost` those of all rounds that never came: their node raised, was
    gone, or took longer than the job's timeout. Their round goes on without them, as with any client that drops out;
    the divisor is public and stays.
    """

    grid: Grid
    job: FlowerJob
    local: Any
    federation: Federation | None = None
    lost: int = 0
    arrived: int = 0
    _node_of: dict[str, int] = field(default_factory=dict)

    @property
    def module(self) -> Any:
        """The model, for its number type and buffers."""
        return self.local.module

    @property
    def names(self) -> Any:
        """All clients."""
        return self.local.names

    @property
    def freeze_buffers(self) -> bool:
        """Whether buffers stay as they start."""
        return bool(self.local.freeze_buffers)

    def connect(self) -> None:
        """Wait until all nodes are there and ask each for its partition. `PrerequisiteError` after the timeout."""
        end = time.monotonic() + self.job.timeout
        while len(nodes := sorted(self.grid.get_node_ids())) < self.job.nodes:
            if time.monotonic() > end:
                raise PrerequisiteError(
                    f"flower: {len(nodes)} of {self.job.nodes} nodes connected within {self.job.timeout:g} s: start "
                    "more SuperNodes or raise the job's timeout"
                )
            time.sleep(_POLL)
        asks = [Message(RecordDict(), node, MessageType.QUERY) for node in nodes]
        names = tuple(self.local.names)
        for reply in self.grid.send_and_receive(asks, timeout=self.job.timeout):
            if not reply.has_error():
                node: Any = reply.content["node"]
                partition = int(node["partition"])
                self._node_of.update(dict.fromkeys(self.job.clients_of(names, partition), reply.metadata.src_node_id))
        homeless = [n for n in names if n not in self._node_of]
        if homeless:
            raise PrerequisiteError(
                f"flower: no node for {len(homeless)} clients, {homeless[0]!r} first: give SuperNodes partition ids "
                f"0 to {self.job.nodes - 1}, as in --node-config 'partition-id=0'"
            )

    def updates(
        self, weights: Flat, buffers: Buffers, chosen: NDArray[np.int64], *, seeds: Seeds, round_number: int
    ) -> Iterator[CohortUpdates]:
        """As `LocalTrainer.updates`, one portion a node, in the order of client positions."""
        del seeds
        arrays = {"weights": Array(weights), **{BUFFER + k: Array(np.asarray(v)) for k, v in buffers.items()}}
        record = ArrayRecord(arrays)
        clip = self.federation.clip if self.federation is not None else np.inf
        by_node: dict[int, list[str]] = {}
        for client in chosen.tolist():
            name = self.local.names[client]
            by_node.setdefault(self._node_of[name], []).append(name)
        there = set(self.grid.get_node_ids())
        messages = [
            Message(
                RecordDict({"arrays": record, "config": train_config(round_number, float(clip), len(chosen), names)}),
                node,
                MessageType.TRAIN,
            )
            for node, names in by_node.items()
            # One that the SuperLink knows to be gone is not waited for.
            if node in there
        ]
        replies = [r for r in self.grid.send_and_receive(messages, timeout=self.job.timeout) if not r.has_error()]
        parts = sorted((_unpack(r) for r in replies), key=lambda p: int(p.clients.min()))
        self.arrived = sum(len(p.clients) for p in parts)
        self.lost += len(chosen) - self.arrived
        yield from parts


def _unpack(reply: Message) -> CohortUpdates:
    arrays = arrays_in(reply)
    metrics: Any = reply.content["metrics"]
    clients = np.array(metrics["clients"], np.int64)
    held: list[Buffers] = []
    for position in range(len(clients)):
        head = f"{BUFFER}{position}."
        own = {k[len(head) :]: v for k, v in arrays.items() if k.startswith(head)}
        held += [own] if own else []
    return CohortUpdates(clients, arrays["deltas"], np.array(metrics["examples"], np.int64), held)


def _write(result: FlowerResult, out: Path) -> None:
    import json

    from safetensors.numpy import save_file

    (out / "transcript").mkdir(parents=True, exist_ok=True)
    save_transcript(result.transcript, out / "transcript")
    save_file({"weights": np.ascontiguousarray(result.weights)}, out / "final.safetensors")
    (out / "result.json").write_text(json.dumps(result.metrics, indent=1) + "\n", encoding="utf-8")
