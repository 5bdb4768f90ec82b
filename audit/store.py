"""The content-addressed store of a run: what is there is complete, verified and never trained twice (DESIGN 4)."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .errors import ConfigError, StaleArtifactError

KINDS = ("models", "signals", "scores", "canaries", "games")


def canonical(value: Any) -> str:
    """JSON with sorted keys and no spaces: equal values give equal text."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def digest(value: Any) -> str:
    """SHA-256 of the canonical JSON of `value`."""
    return hashlib.sha256(canonical(value).encode()).hexdigest()


def file_digest(path: Path) -> str:
    """SHA-256 of a file's bytes."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


@dataclass(frozen=True, slots=True)
class Difference:
    """One field in which a stored entry's inputs differ from those of another."""

    field: str
    here: Any
    there: Any


class Store:
    """Entries `kind/key/` below `root`. A key is the digest of the entry's inputs, which are kept in `inputs.json`.

    An entry is written into a temporary folder and renamed into place as a whole, `done.json` (digest of every file)
    written last; so an entry either is complete or does not exist.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._verified: set[Path] = set()

    def path(self, kind: str, key: str) -> Path:
        """Where an entry lies, or would lie."""
        return self.root / kind / key

    def has(self, kind: str, key: str) -> bool:
        """Whether the entry is there and its files are what was written. A damaged entry is moved aside."""
        folder = self.path(kind, key)
        if folder in self._verified:
            return True
        if not folder.is_dir():
            return False
        problem = damage(folder)
        if problem is None:
            self._verified.add(folder)
            return True
        # Kept for inspection, out of the way of the entry that will replace it.
        shutil.move(folder, folder.with_name(f"{key}.damaged-{time.time_ns()}"))
        return False

    @contextlib.contextmanager
    def writing(self, kind: str, key: str, inputs: Mapping[str, Any]) -> Iterator[Path]:
        """A folder to write an entry's files into; it becomes the entry when the block ends without an error."""
        final = self.path(kind, key)
        temporary = self.root / "tmp" / f"{kind}-{key}-{os.getpid()}"
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        try:
            yield temporary
            (temporary / "inputs.json").write_text(json.dumps(inputs, indent=1, sort_keys=True))
            files = {p.name: file_digest(p) for p in sorted(temporary.iterdir())}
            write_atomically(temporary / "done.json", json.dumps({"files": files}, indent=1))
            final.parent.mkdir(parents=True, exist_ok=True)
            if not final.exists():
                temporary.rename(final)
            self._verified.add(final)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)

    def entries(self, kind: str) -> list[Path]:
        """Folders of the complete entries of a kind, sorted by key."""
        return sorted(p for p in (self.root / kind).glob("*") if (p / "done.json").is_file() and "." not in p.name)

    def find(self, prefix: str) -> Path:
        """The entry whose key starts with `prefix`; `ConfigError` if none or several do."""
        found = [p for kind in KINDS for p in self.entries(kind) if p.name.startswith(prefix)]
        if len(found) != 1:
            raise ConfigError(
                f"store {self.root}: {len(found)} entries start with {prefix!r}; `leakgauge store ls` shows the keys"
            )
        return found[0]

    def explain(self, prefix: str) -> tuple[Path | None, list[Difference]]:
        """The entry of the same kind most like the one named, and field by field where their inputs differ: why that
        entry was not reused."""
        entry = self.find(prefix)
        inputs = flatten(read_inputs(entry))
        best: tuple[Path | None, list[Difference]] = (None, [])
        for other in self.entries(entry.parent.name):
            if other == entry:
                continue
            differences = differing(inputs, flatten(read_inputs(other)))
            if best[0] is None or len(differences) < len(best[1]):
                best = (other, differences)
        return best

    def collect(self, keep: set[str]) -> int:
        """Delete entries not in `keep`, leftovers of killed writes, and damaged entries; returns the bytes freed."""
        freed = 0
        doomed = [p for kind in KINDS for p in (self.root / kind).glob("*") if p.name not in keep]
        for folder in [*doomed, *(self.root / "tmp").glob("*")]:
            freed += size_of(folder)
            shutil.rmtree(folder, ignore_errors=True)
        return freed


def damage(folder: Path) -> str | None:
    """What is wrong with an entry, or None: every file listed in `done.json` must be there with its digest."""
    try:
        files = json.loads((folder / "done.json").read_text())["files"]
    except (OSError, ValueError, KeyError) as error:
        return f"{folder}: done.json is missing or unreadable ({error})"
    for name, expected in files.items():
        path = folder / name
        if not path.is_file():
            return f"{folder}: {name} is missing"
        if file_digest(path) != expected:
            return f"{folder}: {name} has changed since it was written"
    return None


def read_inputs(folder: Path) -> dict[str, Any]:
    """The inputs an entry was made from."""
    try:
        inputs: dict[str, Any] = json.loads((folder / "inputs.json").read_text())
    except (OSError, ValueError) as error:
        raise StaleArtifactError(f"{folder}: inputs.json is missing or unreadable ({error})") from None
    return inputs


def flatten(value: Any, prefix: str = "") -> dict[str, Any]:
    """Nested dictionaries to dotted keys."""
    if isinstance(value, Mapping):
        out: dict[str, Any] = {}
        for key, inner in value.items():
            out.update(flatten(inner, f"{prefix}.{key}" if prefix else str(key)))
        return out
    return {prefix: value}


def differing(here: Mapping[str, Any], there: Mapping[str, Any]) -> list[Difference]:
    """The fields in which two flat dictionaries differ, sorted by name."""
    return [
        Difference(key, here.get(key), there.get(key))
        for key in sorted({*here, *there})
        if here.get(key) != there.get(key)
    ]


def size_of(folder: Path) -> int:
    """Bytes of all files below a folder."""
    return sum(p.stat().st_size for p in folder.rglob("*") if p.is_file())


def write_atomically(path: Path, text: str) -> None:
    """Write a text file so that a reader, or a kill at any moment, sees the old or the new content only."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)
