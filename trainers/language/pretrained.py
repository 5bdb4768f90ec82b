"""Pretrained models from a folder or the Hub: safetensors and JSON only; no foreign code runs."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ...audit.errors import ConfigError, IncompatibleError, PrerequisiteError
from ...audit.seeds import Seeds
from .model import LanguageModel, Objective, require_objective, wrapped

HEAD = "cls."
"""Where a BERT keeps the head that predicts tokens; a sentence encoder comes without it."""


def pretrained_folder(source: str, revision: str | None) -> Path:
    """Where the files of a pretrained model lie: a local folder, or the Hub's cache at a pinned revision, of which
    only safetensors and JSON are fetched. Raises `ConfigError` without a revision, `PrerequisiteError` where it cannot
    be had."""
    path = Path(source).expanduser()
    if path.is_dir():
        return path
    if revision is None:
        raise ConfigError(f"language: pretrained = {source!r} is no folder, so it needs revision (a commit on the Hub)")
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(source, revision=revision, allow_patterns=["*.safetensors", "*.json"]))
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        raise PrerequisiteError(f"language: {source!r} at {revision!r} cannot be fetched: {reason}") from None


def read_pretrained(
    folder: Path, objective: Objective = "causal", *, seeds: Seeds | None = None, padding: int = 0, mask: int = 0
) -> LanguageModel:
    """The model in `folder`, in float32, dropout off. A BERT without a head that predicts tokens gets a fresh one from
    `seeds`. Refuses other architectures, missing weights, and weights that are not safetensors."""
    from transformers import AutoConfig

    try:
        config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        require_objective(config.model_type, objective, str(folder))
        _no_dropout(config)
        with (seeds or Seeds(0)).torch_scope():
            inner = _read(folder, config)
    except (OSError, ValueError) as error:
        raise PrerequisiteError(f"language: {folder} cannot be loaded: {' '.join(str(error).split())[:300]}") from None
    return wrapped(inner.float(), padding=padding, mask=mask)


def _no_dropout(config: Any) -> None:
    for key in (
        *("resid_pdrop", "embd_pdrop", "attn_pdrop"),
        *("hidden_dropout_prob", "attention_probs_dropout_prob", "attention_dropout"),
    ):
        if hasattr(config, key):
            setattr(config, key, 0.0)


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """Without the library's progress bar and table of missing weights: what is missing is checked here."""
    from transformers.utils import logging

    library: Any = logging  # its functions are untyped
    before, bars = library.get_verbosity(), library.is_progress_bar_enabled()
    library.set_verbosity_error()
    library.disable_progress_bar()
    try:
        yield
    finally:
        library.set_verbosity(before)
        if bars:
            library.enable_progress_bar()


def _read(folder: Path, config: Any) -> Any:
    from transformers import BertForMaskedLM, GPT2LMHeadModel, LlamaForCausalLM

    readers: dict[str, Any] = {"gpt2": GPT2LMHeadModel, "llama": LlamaForCausalLM, "bert": BertForMaskedLM}
    with _quietly():
        inner, found = readers[config.model_type].from_pretrained(
            folder,
            config=config,
            use_safetensors=True,
            local_files_only=True,
            trust_remote_code=False,
            output_loading_info=True,
        )
    missing = [key for key in found["missing_keys"] if not key.startswith(HEAD)]
    if missing:
        raise IncompatibleError(f"language: {folder} lacks {len(missing)} weights, {sorted(missing)[0]!r} among them")
    return inner
