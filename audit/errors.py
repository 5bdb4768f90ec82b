"""The few error types of LeakGauge. Each message says what is wrong, the value seen, and what to do."""

from __future__ import annotations


class LeakGaugeError(Exception):
    """Base of every error that the command line turns into one line and exit code 2."""


class ConfigError(LeakGaugeError):
    """A configuration, argument or input file is wrong: names the key, the value seen and the remedy."""


class PrerequisiteError(LeakGaugeError):
    """A package, file or device that this step needs is missing: says how to get it."""


class IncompatibleError(LeakGaugeError):
    """Two things that must agree do not: a bound and a design, a claim and an adjacency, a mask and its weights."""


class StaleArtifactError(LeakGaugeError):
    """A stored artifact is corrupt or does not belong to what asks for it."""


class UnderpoweredWarning(UserWarning):
    """The audit could not have seen a violation; a low bound from it is no evidence."""
