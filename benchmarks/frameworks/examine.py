"""Each subject through its scenes and the probes; what was found, as plain values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ...audit.aggregation import SceneAudit, examine_aggregation, examine_scene, lone_scene
from ...audit.checks.aggregation import probe_adaptive_clip, probe_aggregation
from ...audit.checks.record import CheckResult
from ...audit.seeds import Seeds
from ...audit.types import Verdict
from .subjects import CLIENTS, CLIP, NOISE, Subject

if TYPE_CHECKING:
    from flwr.serverapp.strategy import FedAvg, Strategy


@dataclass(frozen=True, slots=True)
class Outcome:
    """The scenes of one subject. `as_expected`: each known defect was certified and nothing else was."""

    subject: Subject
    audits: tuple[SceneAudit, ...]

    @property
    def as_expected(self) -> bool:
        """Whether exactly the expected scenes are violated, none failed, and a control is consistent everywhere."""
        found = {a.scene for a in self.audits if a.verdict is Verdict.VIOLATED}
        calm = Verdict.CONSISTENT if self.subject.control else Verdict.UNDERPOWERED
        others = {a.verdict for a in self.audits if a.verdict is not Verdict.VIOLATED}
        return found == set(self.subject.expected) and others <= {calm}

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "package": self.subject.package,
            "subject": self.subject.name,
            "accountant": self.subject.claimed.claim.accountant,
            "adjacency": str(self.subject.claimed.claim.adjacency),
            "control": self.subject.control,
            "expected": list(self.subject.expected),
            "as_expected": self.as_expected,
            "scenes": [a.to_json() for a in self.audits],
        }


def examine_subject(subject: Subject, *, seeds: Seeds, runs: int | None = None) -> Outcome:
    """All scenes of one subject; numpy's process-wide generator follows `seeds` meanwhile, since Flower uses it."""
    with seeds.at("global").numpy_scope():
        aggregate = subject.make(NOISE, seeds.at("noise"))
        twin = subject.make(0.0, seeds.at("twin")) if subject.control else None
        many = runs or subject.runs
        if subject.scenes == ("alone",):
            scene = lone_scene(clip=CLIP, dimension=subject.dimension)
            audit = examine_scene(
                aggregate, scene, subject.claimed, runs=many, seeds=seeds.at("scene"), unprotected=twin
            )
            return Outcome(subject, (audit,))
        audits = examine_aggregation(
            aggregate,
            subject.claimed,
            clients=CLIENTS,
            dimension=subject.dimension,
            runs=many,
            seeds=seeds.at("scene"),
            unprotected=twin,
            names=subject.scenes,
        )
    return Outcome(subject, tuple(audits))


def probe_subject(subject: Subject, *, seeds: Seeds) -> list[CheckResult]:
    """The probes of one aggregation, noise on."""
    with seeds.at("global").numpy_scope():
        aggregate = subject.make(NOISE, seeds.at("noise"))
        return probe_aggregation(aggregate, clip=CLIP, clients=CLIENTS, dimension=subject.dimension)


def probe_flower_buffers(*, seeds: Seeds) -> CheckResult:
    """An int64 counter, three steps further at each client, through server-side fixed clipping with a wide clip."""
    from flwr.serverapp.strategy import DifferentialPrivacyServerSideFixedClipping

    from .flower import integer_buffer_after

    with seeds.at("global").numpy_scope():
        after = integer_buffer_after(lambda s: DifferentialPrivacyServerSideFixedClipping(s, NOISE, 100.0, CLIENTS))
    rule = "aggregate.integer-buffer"
    if isinstance(after, Exception):
        return CheckResult(rule, False, f"an int64 counter raises {type(after).__name__}: {after}")
    passed = after is not None and after.dtype.kind == "i"
    kind = "nothing" if after is None else f"{after.dtype} {float(after):.3f}"
    return CheckResult(rule, passed, f"a counter that went from 0 to 3 at every client comes back as {kind}")


def probe_flower_clips(*, seeds: Seeds) -> dict[str, CheckResult]:
    """Both adaptive strategies of Flower with all updates a hundred times the first clip, and no noise."""
    from flwr.clientapp.mod import adaptiveclipping_mod
    from flwr.serverapp.strategy import (
        DifferentialPrivacyClientSideAdaptiveClipping,
        DifferentialPrivacyServerSideAdaptiveClipping,
    )

    from .flower import clip_series

    start = 0.1

    def server_side(inner: FedAvg) -> Strategy:
        return DifferentialPrivacyServerSideAdaptiveClipping(inner, 0.0, CLIENTS, initial_clipping_norm=start)

    def client_side(inner: FedAvg) -> Strategy:
        return DifferentialPrivacyClientSideAdaptiveClipping(inner, 0.0, CLIENTS, initial_clipping_norm=start)

    with seeds.at("global").numpy_scope():
        steps = {
            "server-side adaptive clipping": clip_series(server_side),
            "client-side adaptive clipping": clip_series(client_side, [adaptiveclipping_mod]),
        }
        return {n: probe_adaptive_clip(s, start=start, clients=CLIENTS, dimension=4) for n, s in steps.items()}
