"""Wrap any Flower `Strategy`: it works as before, and every round goes to a transcript on disk."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from flwr.serverapp import Grid
from flwr.serverapp.strategy import Strategy
from flwr.serverapp.strategy.result import Result
from numpy.typing import NDArray

from ...audit.errors import ConfigError
from ...audit.seeds import Seeds
from ..federated.protection import View
from .canaries import CanaryPlan, Directions
from .growing import GrowingArray

RECORD, TRUTH = "transcript.json", "canaries.json"


class Recorder(Strategy):
    """`Recorder(strategy, folder)` in place of `strategy`: each call is passed on, and the rounds are written down.

    The folder holds what the observer `view` sees, in the trainers' own format (`federated.views.load_transcript`):
    "global-models" the float32 global models (rounds + 1, parameters), "updates" also every client's update as it came
    (before the strategy's own clipping), its round, node and weight. Integer arrays (counters) are left out. Rows go to
    disk as they come: memory is one model, and a run that dies keeps its finished rounds.

    With `canaries` the recorder also plays the game of `audit_transcript`: it adds the replies of canary clients and
    keeps each round's projections on their directions. The coins are in `canaries.json`, apart from the transcript.
    """

    def __init__(
        self,
        strategy: Strategy,
        folder: str | Path,
        *,
        view: View = "global-models",
        canaries: CanaryPlan | None = None,
        seed: int = 0,
        weight_key: str = "num-examples",
    ) -> None:
        if view not in ("global-models", "updates"):
            raise ConfigError(f"recorder: view must be 'global-models' or 'updates', got {view!r}")
        self.strategy = strategy
        self._folder = Path(folder)
        self._view = view
        self._plan = canaries
        self._seeds = Seeds(seed).at("flower recorder")
        self._weight_key = weight_key
        self._files: dict[str, GrowingArray] = {}
        self._names: list[str] = []
        self._nodes: dict[int, int] = {}
        self._model: NDArray[np.float32] | None = None
        self._arrays: ArrayRecord | None = None
        self._directions: Directions | None = None

    def __getattr__(self, name: str) -> Any:
        """Whatever else the strategy has, which its own `start` may need."""
        if name.startswith("__") or name == "strategy":
            raise AttributeError(name)
        return getattr(self.strategy, name)

    def __repr__(self) -> str:
        return f"Recorder({self.strategy!r})"

    def start(self, *args: Any, **kwargs: Any) -> Result:
        """The strategy's own `start`, run over the recorder's methods."""
        return type(self.strategy).start(self, *args, **kwargs)

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Pass on; the first call also records the model that training starts from."""
        self._arrays = arrays
        if self._model is None:
            self._open(arrays)
        return self.strategy.configure_train(server_round, arrays, config, grid)

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Record the replies, add the canaries', pass on, record the new model."""
        real = list(replies)
        usable = [r for r in real if not r.has_error()]
        if self._view == "updates":
            self._record_updates(server_round, usable)
        added = self._canary_replies(server_round, usable)
        arrays, metrics = self.strategy.aggregate_train(server_round, [*real, *added])
        self._record_model(arrays, len(usable))
        return arrays, metrics

    def configure_evaluate(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Pass on."""
        return self.strategy.configure_evaluate(server_round, arrays, config, grid)

    def aggregate_evaluate(self, server_round: int, replies: Iterable[Message]) -> MetricRecord | None:
        """Pass on."""
        return self.strategy.aggregate_evaluate(server_round, replies)

    def summary(self) -> None:
        """Pass on."""
        self.strategy.summary()

    def close(self) -> None:
        """Close the files; they are complete after every round anyway."""
        for file in self._files.values():
            file.close()

    def _open(self, arrays: ArrayRecord) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        if (self._folder / RECORD).exists():
            raise ConfigError(f"{self._folder} holds a transcript already: choose a new folder or remove it")
        self._names = [k for k, a in arrays.items() if np.issubdtype(np.dtype(a.dtype), np.floating)]
        self._model = self._flat(arrays)
        row = (len(self._model),)
        kinds: dict[str, tuple[tuple[int, ...], str]] = {"models": (row, "<f4")}
        if self._view == "updates":
            kinds |= {"updates": (row, "<f4"), "update_rounds": ((), "<i4"), "update_clients": ((), "<i4")}
            kinds |= {"update_examples": ((), "<f8")}
        if self._plan is not None:
            self._directions = Directions.draw(self._plan, row[0], seeds=self._seeds)
            kinds["projections"] = ((self._plan.count,), "<f4")
            self._write_truth(self._plan)
        self._files = {n: GrowingArray(self._folder / f"{n}.npy", s, k) for n, (s, k) in kinds.items()}
        self._files["models"].append(self._model[None])
        self._save()

    def _record_updates(self, server_round: int, replies: list[Message]) -> None:
        assert self._model is not None
        for reply in replies:
            node = self._nodes.setdefault(reply.metadata.src_node_id, len(self._nodes))
            update = self._flat(_only(reply.content.array_records)) - self._model
            self._files["updates"].append(update[None])
            # Flower counts rounds from 1, transcripts from 0.
            self._files["update_rounds"].append(np.array([server_round - 1]))
            self._files["update_clients"].append(np.array([node]))
            self._files["update_examples"].append(np.array([self._weight(reply)]))

    def _record_model(self, arrays: ArrayRecord | None, replies: int) -> None:
        """The new model; a round that released none leaves the old one and no projections."""
        assert self._model is not None
        new = self._model if arrays is None else self._flat(arrays)
        self._files["models"].append(new[None])
        if self._plan is not None and self._directions is not None and arrays is not None:
            # In units of what one clipped canary adds to the mean. The expected number, not who really came, so that
            # the observer needs no coins.
            expected = replies + self._plan.count * self._plan.sample_rate * (0.5 if self._silent else 1.0)
            seen = self._directions.project(new - self._model) * expected / self._plan.clip
            self._files["projections"].append(seen[None])
        self._model = new
        self._save()

    def _canary_replies(self, server_round: int, real: list[Message]) -> list[Message]:
        """The canaries' messages, shaped like the first real one; none in a round without a real reply."""
        plan, directions = self._plan, self._directions
        if plan is None or directions is None or not real:
            return []
        inside = plan.coins(self._seeds)
        weight = float(np.median([self._weight(r) for r in real]))
        added = []
        for canary in plan.taking_part(server_round, self._seeds).tolist():
            if inside[canary] or not self._silent:
                norm = plan.clip * (plan.strength if inside[canary] else 1e-6)
                added.append(self._reply(real[0], directions.update(canary, norm), weight))
        return added

    def _reply(self, like: Message, update: NDArray[np.float32], weight: float) -> Message:
        assert self._arrays is not None
        arrays, start = {}, 0
        for name, array in self._arrays.items():
            value = array.numpy()
            if name in self._names:
                part = update[start : start + value.size].reshape(value.shape)
                start += value.size
                value = (value + part).astype(value.dtype)
            arrays[name] = Array(np.asarray(value))
        (array_key,), (metric_key, measured) = like.content.array_records, _item(like.content.metric_records)
        values: dict[str, Any] = dict(measured)
        values[self._weight_key] = int(weight) if float(weight).is_integer() else weight
        content = RecordDict({array_key: ArrayRecord(arrays), metric_key: MetricRecord(values)})
        reply = Message(content, reply_to=like)
        # `like` is a reply itself: the canary's has the same ends.
        reply.__dict__["_metadata"] = like.metadata
        return reply

    def _weight(self, reply: Message) -> float:
        return float(_only(reply.content.metric_records).get(self._weight_key, 1.0))

    @property
    def _silent(self) -> bool:
        return self._plan is not None and self._plan.absent == "silent"

    def _flat(self, arrays: ArrayRecord) -> NDArray[np.float32]:
        parts = [np.asarray(arrays[name].numpy(), np.float32).ravel() for name in self._names]
        return np.concatenate(parts)

    def _save(self) -> None:
        """Rows first, then what names them."""
        for file in self._files.values():
            file.flush()
        nodes = [str(node) for node in self._nodes]
        record = {"view": self._view, "clients": nodes, "arrays": list(self._files), "parameters": self._names}
        temporary = self._folder / f"{RECORD}.part"
        temporary.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
        temporary.replace(self._folder / RECORD)

    def _write_truth(self, plan: CanaryPlan) -> None:
        truth = {
            "canaries": list(plan.ids),
            "inside": plan.coins(self._seeds).astype(int).tolist(),
            "sample_rate": plan.sample_rate,
            "clip": plan.clip,
            "adjacency": "add-remove" if self._silent else "zero-out",
        }
        (self._folder / TRUTH).write_text(json.dumps(truth) + "\n", encoding="utf-8")


def _only(records: Any) -> Any:
    return _item(records)[1]


def _item(records: Any) -> tuple[str, Any]:
    found = list(records.items())
    if len(found) != 1:
        raise ConfigError(f"recorder: a reply holds {len(found)} records of one kind, expected 1 as FedAvg does")
    return found[0]  # type: ignore[no-any-return]
