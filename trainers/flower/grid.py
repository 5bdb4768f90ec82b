"""A Flower `Grid` in this process: messages go to client apps one after another, no server, no Ray, no waiting."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from flwr.app import Context, Error, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid
from flwr.supercore.task_identity import TaskIdentity

_CLIENT_APP_RAISED = 1
_SERVER_NODE = 1


class InProcessGrid(Grid):
    """Delivers each message to `client_app` under its node's context and returns the replies in order of sending.

    `node_configs` maps node ids to their configuration (`partition-id`, `num-partitions`, whatever the app reads).
    `alive(node_id)` says whether a node answers; one that does not gives no reply, as after a timeout. An exception in
    the client app becomes an error reply, as in a deployment. Deterministic; used in tests and for repeated audits.
    """

    def __init__(
        self,
        client_app: ClientApp,
        node_configs: Mapping[int, Mapping[str, Any]],
        *,
        alive: Callable[[int], bool] = lambda _: True,
    ) -> None:
        enter_process()
        self._client_app = client_app
        self._contexts = {
            node: Context(run_id=1, node_id=node, node_config=dict(config), state=RecordDict(), run_config={})
            for node, config in node_configs.items()
        }
        self._alive = alive
        self._waiting: dict[str, Message] = {}
        self._sent = 0

    def set_run(self, run: Any) -> None:
        """There is one run only."""

    @property
    def run(self) -> Any:
        """Nothing is known of a run outside Flower's own services."""
        raise NotImplementedError("the in-process grid belongs to no run of a SuperLink")

    def create_message(
        self, content: RecordDict, message_type: str, dst_node_id: int, group_id: str, ttl: float | None = None
    ) -> Message:
        """Flower's older way to make a message."""
        return Message(content, dst_node_id, message_type, ttl=ttl, group_id=group_id)

    def get_node_ids(self) -> Iterable[int]:
        """All nodes, in order, alive or not."""
        return list(self._contexts)

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Deliver at once; the replies wait for `pull_messages`."""
        identifiers = []
        for message in messages:
            self._sent += 1
            identifier = str(self._sent)
            message.metadata.__dict__["_message_id"] = identifier
            identifiers.append(identifier)
            node = message.metadata.dst_node_id
            if self._alive(node):
                self._waiting[identifier] = self._deliver(message, self._contexts[node])
        return identifiers

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """The replies to these messages; each is given out once."""
        return [self._waiting.pop(i) for i in message_ids if i in self._waiting]

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> Iterable[Message]:  # noqa: ARG002
        """Deliver and collect; `timeout` has nothing to wait for."""
        return self.pull_messages(self.push_messages(messages))

    def _deliver(self, message: Message, context: Context) -> Message:
        try:
            return self._client_app(message, context)
        except Exception as error:
            return Message(Error(_CLIENT_APP_RAISED, f"{type(error).__name__}: {error}"), reply_to=message)


def enter_process() -> None:
    """Give this process the identity without which Flower 1.41 makes no messages; harmless where it has one."""
    for name in ("run_id", "task_id", "node_id"):
        if getattr(TaskIdentity, f"_{name}") is None:
            setattr(TaskIdentity, name, _SERVER_NODE)
