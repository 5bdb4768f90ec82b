"""The client side: our own local training behind Flower's messages."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from numpy.typing import NDArray

from ..federated.layout import Buffers
from ..federated.sending import RoundSum
from .job import FlowerJob, local_trainer

BUFFER = "buffer."


def build_client_app(job: FlowerJob | None = None) -> ClientApp:
    """An app that trains the clients of its node; without `job` it reads the run configuration's `job`.

    `query` tells the node's partition id. `train` gets weights, buffers, round, clip and the names of clients, trains
    those from the round's own seeds, and replies with their updates (clients, dimension), examples and buffers. Noise
    that a client adds itself (local and distributed DP) is added here, before anything leaves.
    """
    app = ClientApp()

    @app.query()
    def query(message: Message, context: Context) -> Message:
        # Deployments without a partition id have one SuperNode.
        partition = int(context.node_config.get("partition-id", 0))
        return Message(RecordDict({"node": MetricRecord({"partition": partition})}), reply_to=message)

    @app.train()
    def train(message: Message, context: Context) -> Message:
        text = str(context.run_config["job"]) if job is None else job.to_json()
        return Message(_train(text, message), reply_to=message)

    return app


def _train(job: str, message: Message) -> RecordDict:
    trainer, _ = local_trainer(job)
    parsed = FlowerJob.from_json(job)
    protection = parsed.plan().protection
    config: Any = message.content["config"]
    arrays = arrays_in(message)
    buffers = {k[len(BUFFER) :]: v for k, v in arrays.items() if k.startswith(BUFFER)}
    number, names = int(config["round"]), list(config["clients"])
    chosen = np.array([trainer.names.index(n) for n in names], np.int64)
    parts = list(trainer.updates(arrays["weights"], buffers, chosen, seeds=parsed.seeds, round_number=number))
    clients = np.concatenate([p.clients for p in parts])
    deltas = np.concatenate([p.deltas for p in parts])
    if protection is not None and protection.client:
        held = RoundSum(
            number, deltas.shape[1], protection, float(config["clip"]), parsed.seeds, int(config["answered"])
        )
        deltas = held.add([trainer.names[c] for c in clients.tolist()], deltas)
    record = {"deltas": Array(deltas)}
    for position, own in enumerate(b for p in parts for b in p.buffers):
        record.update(_named(own, position))
    metrics = MetricRecord(
        {
            "clients": [int(c) for c in clients],
            "examples": [int(e) for p in parts for e in p.examples],
            # Flower's own strategies want it; ours divides by a public number.
            "num-examples": 1,
        }
    )
    return RecordDict({"arrays": ArrayRecord(record), "metrics": metrics})


def arrays_in(message: Message) -> dict[str, NDArray[Any]]:
    """The arrays of a message by name."""
    record: Any = message.content["arrays"]
    return {name: array.numpy() for name, array in record.items()}


def _named(buffers: Buffers, position: int) -> Mapping[str, Array]:
    return {f"{BUFFER}{position}.{name}": Array(np.asarray(value)) for name, value in buffers.items()}


def train_config(number: int, clip: float, answered: int, names: list[str]) -> ConfigRecord:
    """What the server tells a node in a round."""
    return ConfigRecord({"round": number, "clip": clip, "answered": answered, "clients": names})
