"""Arrays on disk that grow row by row and can be read at any time: a killed run keeps what it had recorded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

_HEADER = 128
_MAGIC = b"\x93NUMPY\x01\x00"


class GrowingArray:
    """A npy file of rows (rows, *shape) of `kind`. `flush` makes all rows so far readable by `numpy.load`.

    An existing file of the same kind and row shape is continued after its first `keep` rows (default: overwritten).
    """

    def __init__(self, path: Path, shape: tuple[int, ...], kind: str, *, keep: int = 0) -> None:
        self._shape, self._kind = shape, np.dtype(kind)
        path.parent.mkdir(parents=True, exist_ok=True)
        if keep and not path.exists():
            raise FileNotFoundError(f"{path}: nothing to continue")
        self._file = path.open("r+b" if keep else "w+b")
        self.rows = keep
        self._file.truncate(_HEADER + keep * self._row_bytes if keep else 0)
        self.flush()

    def append(self, rows: NDArray[Any]) -> None:
        """Add rows (n, *shape)."""
        values = np.ascontiguousarray(rows, self._kind).reshape(-1, *self._shape)
        self._file.seek(_HEADER + self.rows * self._row_bytes)
        self._file.write(values.tobytes())
        self.rows += len(values)

    def flush(self) -> None:
        """Write the header for the rows so far, after the rows themselves."""
        self._file.flush()
        shape = (self.rows, *self._shape)
        text = f"{{'descr': '{self._kind.str}', 'fortran_order': False, 'shape': {shape!r}, }}"
        room = _HEADER - len(_MAGIC) - 2
        self._file.seek(0)
        self._file.write(_MAGIC + room.to_bytes(2, "little") + text.ljust(room - 1).encode("latin1") + b"\n")
        self._file.flush()

    def close(self) -> None:
        """Flush and close; harmless twice."""
        if not self._file.closed:
            self.flush()
            self._file.close()

    @property
    def _row_bytes(self) -> int:
        return int(np.prod(self._shape, dtype=np.int64)) * self._kind.itemsize
