"""Flower's DP strategies and mods as black boxes: one real round of strategy, client mods and messages."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator, Sequence
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


def flower_aggregate(
    make: MakeStrategy, *, mods: Sequence[Mod] = (), fresh: bool = False, sampled: int | None = None
) -> Aggregate:
    """One round of the strategy that `make` builds, as `aggregate(updates, weights)`.

    The global model is zero, each client's reply is its update with `num-examples` its weight, and the released update
    is the new global model (dimension,). All nodes take part, or `sampled` of them as Flower draws them. `fresh` builds
    the strategy anew for each round, for those with a state.
    """
    kept = None if fresh else make(plain_fedavg(sampled))

    def aggregate(updates: Sequence[FloatArray], weights: Sequence[float]) -> FloatArray:
        return one_round(kept or make(plain_fedavg(sampled)), updates, weights, mods)

    return aggregate


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """FedAvg warns each time that nothing is evaluated, which is meant."""
    logger = logging.getLogger("flwr")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


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


def clip_series(make: MakeStrategy, mods: Sequence[Mod] = ()) -> Callable[[Sequence[FloatArray]], float]:
    """A strategy that is kept from round to round, as `updates -> the clip of the next round`."""
    strategy: Any = make(plain_fedavg())

    def step(updates: Sequence[FloatArray]) -> float:
        one_round(strategy, updates, [10.0] * len(updates), mods)
        return float(strategy.clipping_norm)

    return step


def plain_fedavg(sampled: int | None = None) -> FedAvg:
    """FedAvg over all nodes, or over `sampled` of them as Flower draws them; nothing is evaluated."""
    from flwr.serverapp.strategy import FedAvg

    with _quiet():
        return FedAvg(
            # Flower takes the larger of the fraction and the minimum, so this draws exactly `sampled` nodes.
            fraction_train=1.0 if sampled is None else 1e-9,
            fraction_evaluate=0.0,
            min_train_nodes=sampled or 1,
            min_available_nodes=1,
        )


def integer_buffer_after(make: MakeStrategy, *, steps: int = 3) -> Any:
    """What an int64 counter in the model, `steps` further at every client, becomes in one round: a numpy array.

    Or the exception that the strategy raises.
    """
    from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
    from flwr.clientapp import ClientApp

    from ...trainers.flower.grid import InProcessGrid

    def record(weights: float, count: int) -> ArrayRecord:
        return ArrayRecord({LAYER: Array(np.full(3, weights, np.float32)), "count": Array(np.array(count, np.int64))})

    app = ClientApp()

    @app.train()
    def train(message: Message, _: Context) -> Message:
        content = RecordDict({"arrays": record(0.1, steps), "metrics": MetricRecord({"num-examples": 10})})
        return Message(content, reply_to=message)

    strategy = make(plain_fedavg())
    grid = InProcessGrid(app, {i + 1: {} for i in range(10)})
    try:
        messages = strategy.configure_train(1, record(0.0, 0), ConfigRecord(), grid)
        arrays, _ = strategy.aggregate_train(1, grid.send_and_receive(messages))
    except Exception as error:
        return error
    return None if arrays is None else arrays["count"].numpy()
