"""What the server holds and knows: printed beside every reconstruction."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class ThreatModel:
    """The assumptions behind one reconstruction; each of them can make an attack look better than it would be.

    `batch_size` records share the gradient. `labels`: "known" or "restored" from the last layer's gradient.
    `normalisation`: whether batch statistics are those of evaluation ("fixed"), of the batch as in training ("batch"),
    of the batch and revealed to the attacker ("revealed"), or there are none. `trained_steps` before the gradient.
    `local_steps` of a client whose update is seen, 1 for a gradient. `noise` on every coordinate after clipping to
    `clip`. `server`: "honest but curious" or "malicious".
    """

    released: str = "the gradient of one batch"
    batch_size: int = 1
    labels: str = "known"
    normalisation: str = "none"
    trained_steps: int = 0
    local_steps: int = 1
    clip: float | None = None
    noise: float = 0.0
    server: str = "honest but curious"

    def describe(self) -> dict[str, str]:
        """In words, for the report."""
        trained = f"after {self.trained_steps} steps of training" if self.trained_steps else "untrained"
        guarded = "nothing is clipped or noised"
        if self.clip is not None:
            guarded = f"each record clipped to norm {self.clip:g}, noise of standard deviation {self.noise:g}"
        held = self.released if self.local_steps == 1 else f"a client's update after {self.local_steps} local steps"
        return {
            "holds": f"{held}; {guarded}",
            "knows": f"the model ({trained}), the batch size {self.batch_size}, labels {self.labels}",
            "assumes": f"batch normalisation: {self.normalisation}",
            "server": self.server,
        }
