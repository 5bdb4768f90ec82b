"""Running a job in this process: through the in-process grid, or on Flower's Ray simulation."""

from __future__ import annotations

import os

from . import require_flower
from .job import FlowerJob

require_flower()

from .client import build_client_app  # noqa: E402
from .grid import InProcessGrid  # noqa: E402
from .server import FlowerResult, build_server_app, run_federation  # noqa: E402


def run_in_process(job: FlowerJob) -> FlowerResult:
    """The job with all nodes in this process: deterministic, no Ray, for tests and for repeated audits."""
    grid = InProcessGrid(
        build_client_app(job), {n + 1: {"partition-id": n, "num-partitions": job.nodes} for n in range(job.nodes)}
    )
    return run_federation(grid, job)


def run_on_ray(job: FlowerJob, *, cpus: int = 2) -> FlowerResult:
    """The job on Flower's simulation engine: one Ray actor a CPU, about 20 s before the first round."""
    require_flower(simulation=True)
    from flwr.simulation import run_simulation

    # Ray's workers share the cores; more threads in each only fight.
    environment = {"OMP_NUM_THREADS": "1", "FLWR_TELEMETRY_ENABLED": "0", "RAY_DEDUP_LOGS": "0"}
    os.environ.update({k: v for k, v in environment.items() if k not in os.environ})
    results: list[FlowerResult] = []
    run_simulation(
        build_server_app(job, results),
        build_client_app(job),
        num_supernodes=job.nodes,
        backend_config={
            "client_resources": {"num_cpus": 1, "num_gpus": 0.0},
            "init_args": {"num_cpus": cpus, "include_dashboard": False, "log_to_driver": False},
        },
    )
    if not results:
        raise RuntimeError("Flower's simulation ended without a result; its log says why")
    return results[0]
