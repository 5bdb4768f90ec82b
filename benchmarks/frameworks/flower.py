"""Flower's DP strategies and mods as black boxes: one real round of strategy, client mods and messages."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ...audit.aggregation import Aggregate
from ...audit.types import FloatArray

if TYPE_CHECKING:
    from flwr.clientapp import ClientApp
    from flwr.clientapp.typing import Mod
    from flwr.serverapp.strategy import FedAvg, Strategy

LAYER = "weights"
"""The model of the crafted clients: one float32 array."""

MakeStrategy = Callable[["FedAvg"], "Strategy"]
"""A plain FedAvg to the strategy under examination, which wraps it."""


def flower_aggregate(make: MakeStrategy, *, mods: Sequence[Mod] = (), fresh: bool = False) -> Aggregate:
    """One round of the strategy that `make` builds, as `aggregate(updates, weights)`.

    The global model is zero, each client's reply is its update with `num-examples` its weight, and the released update
    is the new global model (dimension,). All nodes take part. `fresh` builds the strategy anew for each round, for
    those with a state.
    """
    from flwr.serverapp.strategy import FedAvg

    def plain() -> FedAvg:
        return FedAvg(fraction_train=1.0, fraction_evaluate=0.0, min_train_nodes=1, min_available_nodes=1)

    kept = make(plain())

    def aggregate(updates: Sequence[FloatArray], weights: Sequence[float]) -> FloatArray:
        return one_round(make(plain()) if fresh else kept, updates, weights, mods)

    return aggregate


def one_round(
    strategy: Strategy,
    updates: Sequence[FloatArray],
    weights: Sequence[float],
    mods: Sequence[Mod] = (),
    *,
    number: int = 1,
) -> FloatArray:
    """Configure, send, train, aggregate. Raises `RuntimeError` where Flower returns no model."""
    from flwr.app import ConfigRecord

    from ...trainers.flower.grid import InProcessGrid

    start = to_record(np.zeros(len(updates[0])))
    grid = InProcessGrid(crafted_clients(updates, weights, mods), {i + 1: {} for i in range(len(updates))})
    messages = strategy.configure_train(number, start, ConfigRecord(), grid)
    arrays, _ = strategy.aggregate_train(number, grid.send_and_receive(messages))
    if arrays is None:
        raise RuntimeError("the strategy returned no model")
    return from_record(arrays)


def crafted_clients(updates: Sequence[FloatArray], weights: Sequence[float], mods: Sequence[Mod] = ()) -> ClientApp:
    """An app whose node i + 1 answers with the global model plus `updates[i]` and `weights[i]` examples."""
    from flwr.app import Context, Message, MetricRecord, RecordDict
    from flwr.clientapp import ClientApp

    app = ClientApp(mods=list(mods))

    @app.train()
    def train(message: Message, context: Context) -> Message:
        position = context.node_id - 1
        start = from_record(message.content["arrays"])
        weight = weights[position]
        metrics = MetricRecord({"num-examples": int(weight) if float(weight).is_integer() else float(weight)})
        reply = RecordDict({"arrays": to_record(start + updates[position]), "metrics": metrics})
        return Message(reply, reply_to=message)

    return app


def to_record(flat: FloatArray) -> Any:
    """A flat vector as an `ArrayRecord` of one float32 layer."""
    from flwr.app import Array, ArrayRecord

    return ArrayRecord({LAYER: Array(np.asarray(flat, np.float32))})


def from_record(record: Any) -> FloatArray:
    """The vector in an `ArrayRecord`, float64."""
    return np.asarray(record[LAYER].numpy(), np.float64)
