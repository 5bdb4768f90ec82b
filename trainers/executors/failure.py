"""An error on its way from another process: its name and words, since not every exception can travel."""

from __future__ import annotations

import traceback
from dataclasses import dataclass

from ...audit import errors


@dataclass(frozen=True, slots=True)
class Failure:
    """The type's name, the message, and where it happened."""

    name: str
    message: str
    where: str

    @classmethod
    def of(cls, error: BaseException) -> Failure:
        """The error as something that can be sent."""
        return cls(type(error).__name__, str(error), "".join(traceback.format_exception(error)))

    def error(self) -> Exception:
        """One of our own errors as it was; anything else as an error of the same name and message."""
        own = getattr(errors, self.name, None)
        if isinstance(own, type) and issubclass(own, errors.LeakGaugeError):
            kind: type[Exception] = own
        else:
            kind = type(self.name, (RuntimeError,), {})
        error = kind(self.message)
        error.add_note(self.where)
        return error
