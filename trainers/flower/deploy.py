"""A real Flower deployment on this machine's loopback: a SuperLink, SuperNodes, and `flwr run`, each a process."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ...audit.errors import PrerequisiteError
from . import require_flower

_MODULE = '''"""Our federated trainers as a Flower app; made by leakgauge."""

from leakgauge.trainers.flower.client import build_client_app
from leakgauge.trainers.flower.server import build_server_app

client = build_client_app()
server = build_server_app()
'''

_PROJECT = """[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"

[project]
name = "leakgauge-app"
version = "1.0.0"
description = "A federated audit"
license = "Apache-2.0"
dependencies = []

[tool.hatch.build.targets.wheel]
packages = ["."]

[tool.flwr.app]
publisher = "leakgauge"

[tool.flwr.app.components]
serverapp = "leakgauge_app:server"
clientapp = "leakgauge_app:client"

[tool.flwr.app.config]
job = ""
"""


@dataclass(slots=True)
class Deployment:
    """The running services. Stop them by leaving `loopback`; `nodes` may be killed one by one."""

    folder: Path
    port: int
    superlink: subprocess.Popen[bytes]
    nodes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def submit(self, app: Path, run_config: Mapping[str, str] | None = None) -> str:
        """`flwr run` the app in the folder `app`, which goes on in the background; its run id.

        Raises `RuntimeError` if it is refused.
        """
        toml = self.folder / "run.toml"
        # JSON strings are TOML basic strings.
        toml.write_text("".join(f"{k} = {json.dumps(v)}\n" for k, v in (run_config or {}).items()), encoding="utf-8")
        command = ["run", str(app), "loopback", "--format", "json"]
        command += ["--run-config", str(toml)] if run_config else []
        said = self._flwr(command)
        answer = json.loads(said[said.index("{") :]) if "{" in said else {}
        if not answer.get("success"):
            raise RuntimeError(f"flwr run refused the app: {said.strip()[-2000:]}")
        return str(answer["run-id"])

    def status(self, run: str) -> str:
        """Flower's own word for how a run stands, such as `running` or `finished:completed`."""
        said = self._flwr(["list", "loopback", "--run-id", run, "--format", "json"])
        runs = json.loads(said[said.index("{") :]).get("runs", []) if "{" in said else []
        return str(runs[0]["status"]) if runs else "unknown"

    def run_log(self, run: str) -> str:
        """What the run's ServerApp wrote."""
        return self._flwr(["log", run, "loopback", "--show"])

    def _flwr(self, arguments: list[str]) -> str:
        command = [_program("flwr"), *arguments]
        done = subprocess.run(command, env=_environment(self.folder), capture_output=True, text=True, timeout=120)
        return done.stdout + done.stderr

    def kill_node(self, position: int) -> None:
        """Kill one SuperNode and what it started, as a crash would."""
        _end(self.nodes[position], signal.SIGKILL)

    def log(self) -> str:
        """What all services wrote, for error messages."""
        return "\n".join(p.read_text(encoding="utf-8", errors="replace")[-3000:] for p in self.folder.glob("*.log"))


@contextlib.contextmanager
def loopback(folder: Path, *, nodes: int = 2, timeout: float = 60.0) -> Iterator[Deployment]:
    """A SuperLink and `nodes` SuperNodes (partition ids 0, 1, ...) on free ports of 127.0.0.1, without TLS.

    For tests and trials: `--insecure`, so nothing but loopback. State, logs and Flower's own home go to `folder`.
    Raises `PrerequisiteError` if the SuperLink is not up within `timeout` seconds.
    """
    require_flower()
    folder.mkdir(parents=True, exist_ok=True)
    ports = _free_ports(1 + nodes)
    (folder / "config.toml").write_text(
        '[superlink]\ndefault = "loopback"\n\n[superlink.loopback]\n'
        f'address = "127.0.0.1:{ports[0]}"\ninsecure = true\n',
        encoding="utf-8",
    )
    link = ["flower-superlink", "--insecure", "--host", "127.0.0.1", "--port", str(ports[0])]
    deployment = Deployment(folder, ports[0], _start(folder, "superlink", [*link, _NO_INSTALL]))
    try:
        _wait(deployment, timeout)
        for position, port in enumerate(ports[1:]):
            node = ["flower-supernode", "--insecure", "--superlink", f"127.0.0.1:{ports[0]}", "--port", str(port)]
            config = ["--node-config", f"partition-id={position} num-partitions={nodes}"]
            deployment.nodes.append(_start(folder, f"node-{position}", [*node, *config]))
        yield deployment
    finally:
        for process in (*deployment.nodes, deployment.superlink):
            _end(process, signal.SIGTERM)


def write_app(folder: Path) -> Path:
    """A Flower app folder around our client and server; its run configuration holds the `job` as JSON."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "pyproject.toml").write_text(_PROJECT, encoding="utf-8")
    (folder / "leakgauge_app.py").write_text(_MODULE, encoding="utf-8")
    return folder


def wait_for(path: Path, *, timeout: float, deployment: Deployment, run: str) -> None:
    """Wait until the run has written `path`. Raises `TimeoutError` with the logs of the run and the services."""
    end = time.monotonic() + timeout
    while not path.exists():
        if time.monotonic() > end:
            logs = f"{deployment.log()}\n{deployment.run_log(run)}"
            raise TimeoutError(f"{path.name} did not appear within {timeout:g} s\n{logs}")
        time.sleep(0.2)


_NO_INSTALL = "--disable-runtime-dependency-installation"


def _start(folder: Path, name: str, command: list[str]) -> subprocess.Popen[bytes]:
    with (folder / f"{name}.log").open("wb") as log:
        return subprocess.Popen(
            [_program(command[0]), *command[1:]],
            env=_environment(folder),
            stdout=log,
            stderr=subprocess.STDOUT,
            # Its own group, so that the processes it starts end with it.
            start_new_session=True,
        )


def _end(process: subprocess.Popen[bytes], sent: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, sent)
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(10)


def _wait(deployment: Deployment, timeout: float) -> None:
    end = time.monotonic() + timeout
    while True:
        if deployment.superlink.poll() is not None or time.monotonic() > end:
            raise PrerequisiteError(f"flower: the SuperLink did not start: {deployment.log().strip()[-1000:]}")
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", deployment.port), 1):
            return
        time.sleep(0.2)


def _program(name: str) -> str:
    """The console script beside this Python."""
    return str(Path(sys.executable).parent / name)


def _environment(folder: Path) -> dict[str, str]:
    bin_folder = str(Path(sys.executable).parent)
    return {
        **os.environ,
        "PATH": f"{bin_folder}{os.pathsep}{os.environ.get('PATH', '')}",
        "FLWR_HOME": str(folder),
        "FLWR_TELEMETRY_ENABLED": "0",
        "FLWR_DISABLE_UPDATE_CHECK": "1",
        "OMP_NUM_THREADS": "1",
    }


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for held in sockets:
            held.bind(("127.0.0.1", 0))
        return [int(held.getsockname()[1]) for held in sockets]
