"""What shapes a transformer from outside its specification: the files it starts from, by digest."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from ...audit.store import digest, file_digest
from ..data.tokens import TOKENIZER_FILE
from ..sources import public_folder
from .spec import TransformerTable, transformer_spec

WEIGHT_FILES = ("config.json", "*.safetensors")


def outside_files(table: TransformerTable | None) -> dict[str, str]:
    """A digest of the pretrained files, and of the tokenizer's, that `table` names; empty where it names none.

    Raises what `public_folder` raises.
    """
    spec = transformer_spec(table)
    out = {}
    if spec is not None and spec.pretrained is not None:
        folder = public_folder(spec.pretrained, spec.revision, what="transformer.pretrained", patterns=WEIGHT_FILES)
        out["pretrained"] = folder_digest(folder, WEIGHT_FILES)
    if spec is not None and spec.tokenizer is not None:
        what, files = "transformer.tokenizer", (TOKENIZER_FILE,)
        out["tokenizer"] = folder_digest(
            public_folder(spec.tokenizer, spec.tokenizer_revision, what=what, patterns=files), files
        )
    return out


def folder_digest(folder: Path, patterns: tuple[str, ...]) -> str:
    """Of the names and contents of the files in `folder` that match."""
    files = sorted(path for pattern in patterns for path in folder.glob(pattern))
    return digest([[path.name, _content(path, path.stat().st_size, path.stat().st_mtime_ns)] for path in files])


# Asked for every model of an audit.
@lru_cache(maxsize=16)
def _content(path: Path, size: int, changed: int) -> str:
    del size, changed
    return file_digest(path)
