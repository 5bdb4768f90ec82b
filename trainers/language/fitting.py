"""From a specification to a fitted model: tokenizer, starting weights (fresh, public, pretrained), fine-tuning."""

from __future__ import annotations

import copy
import json
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ...audit.claims_json import claim_from_json
from ...audit.errors import StaleArtifactError
from ...audit.seeds import Seeds
from ...audit.types import BoolArray, Rows, Trained
from ..persistence import RECORD, WEIGHTS, load_weights, save_trained
from ..recipe import OptimizerSpec, Recipe
from .corpus import public_texts
from .tokenizer import TOKENIZER_FILE, ByteTokenizer, SubwordTokenizer, Tokenizer, fit_bpe, read_tokenizer, token_rows

if TYPE_CHECKING:
    from .model import CausalModel, Size

CONFIG = "config.json"


@dataclass(frozen=True, slots=True)
class Beginning:
    """What there is before any private row is seen, a function of public things alone. `public` says how long public
    text is trained on; None or no epochs: not at all. A `pretrained` folder replaces size and tokenizer."""

    size: Size
    length: int
    vocabulary: int | None
    public: str | None
    public_epochs: float
    public_batch_size: int
    public_learning_rate: float
    public_seed: int
    pretrained: str | None
    revision: str | None

    @property
    def window(self) -> int:
        """Characters of public text that fill a row: a subword holds about three."""
        return self.length if self.vocabulary is None and self.pretrained is None else 3 * self.length

    @property
    def is_public_model(self) -> bool:
        """Whether there is a model that has learned something before fine-tuning."""
        return self.pretrained is not None or (self.public is not None and self.public_epochs > 0)


@lru_cache(maxsize=4)
def tokenizer_of(beginning: Beginning) -> Tokenizer:
    """Bytes, a BPE of the public text, or the pretrained model's own."""
    from .model import pretrained_folder

    if beginning.pretrained is not None:
        folder = pretrained_folder(beginning.pretrained, beginning.revision)
        # A model that was saved without a tokenizer reads bytes.
        return read_tokenizer(folder) if (folder / TOKENIZER_FILE).is_file() else ByteTokenizer()
    if beginning.vocabulary is None:
        return ByteTokenizer()
    assert beginning.public is not None
    return fit_bpe(public_texts(beginning.public, beginning.window), beginning.vocabulary)


def starting_model(beginning: Beginning, *, seeds: Seeds, device: str) -> CausalModel:
    """The model before fine-tuning; without a public model it depends on `seeds`, else on public things alone."""
    from .model import fresh_model

    if beginning.is_public_model:
        return copy.deepcopy(_public_model(beginning, device))
    tokenizer = tokenizer_of(beginning)
    return fresh_model(
        beginning.size, vocabulary=tokenizer.vocabulary, length=beginning.length, seeds=seeds.at("init")
    ).to(device)


# A suite fine-tunes one public model many times.
@lru_cache(maxsize=2)
def _public_model(beginning: Beginning, device: str) -> CausalModel:
    from .model import fresh_model, pretrained_folder, read_pretrained
    from .training import tune

    tokenizer = tokenizer_of(beginning)
    seeds = Seeds(beginning.public_seed).at("public")
    if beginning.pretrained is not None:
        model = read_pretrained(pretrained_folder(beginning.pretrained, beginning.revision)).to(device)
    else:
        model = fresh_model(
            beginning.size, vocabulary=tokenizer.vocabulary, length=beginning.length, seeds=seeds.at("init")
        )
    if beginning.public is not None and beginning.public_epochs > 0:
        rows = public_rows(beginning)
        optimizer = OptimizerSpec("adam", beginning.public_learning_rate, 0.0, 0.0)
        recipe = language_recipe(optimizer, beginning.public_epochs, beginning.public_batch_size, "shuffle", None)
        everything = np.ones(len(rows), dtype=bool)
        tune(model, rows, everything, recipe, padding=tokenizer.padding, seeds=seeds, device=device)
    return model.eval()


def public_rows(beginning: Beginning) -> NDArray[np.int64]:
    """The public text as token rows (records, length)."""
    from ...audit.text import byte_rows

    assert beginning.public is not None
    window = beginning.window
    texts = public_texts(beginning.public, window)
    return token_rows(byte_rows(texts, window), tokenizer_of(beginning), beginning.length)


def language_recipe(
    optimizer: OptimizerSpec, epochs: float, batch_size: int, sampling: Any, nominal_rows: int | None
) -> Recipe:
    """A schedule; the recipe's `model` plays no part here."""
    from ..models import ModelSpec

    return Recipe(
        model=ModelSpec(),
        optimizer=optimizer,
        epochs=epochs,
        batch_size=batch_size,
        sampling=sampling,
        nominal_rows=nominal_rows,
    )


def fit_language(
    beginning: Beginning, recipe: Recipe, data: Rows, inside: BoolArray, *, seeds: Seeds, device: str
) -> tuple[Any, int, dict[str, float]]:
    """(target, steps, metrics) of one model fine-tuned on the rows `inside`."""
    from .target import LanguageTarget
    from .training import tune

    tokenizer = tokenizer_of(beginning)
    tokens = token_rows(data.features, tokenizer, beginning.length)
    start = starting_model(beginning, seeds=seeds, device=device)
    # Opacus leaves hooks behind, so the result is a clean copy.
    model = copy.deepcopy(start)
    steps = tune(start, tokens, inside, recipe, padding=tokenizer.padding, seeds=seeds, device=device)
    model.load_state_dict(start.state_dict())
    target = LanguageTarget(model, tokenizer, beginning.length, device)
    metrics = {} if not inside.any() else {"train_perplexity": perplexity(target, data.features[inside])}
    return target, steps, metrics


def perplexity(target: Any, features: NDArray[Any]) -> float:
    """exp of the mean negative log-likelihood of a token, first tokens and padding left out."""
    return float(np.exp(-np.nanmean(target.token_log_probabilities(features))))


def unigram_perplexity(
    training: NDArray[np.int64], held_out: NDArray[np.int64], vocabulary: int, padding: int
) -> float:
    """Perplexity of token frequencies, one added to each, on the same tokens that `perplexity` counts."""
    counts = np.bincount(training[training != padding], minlength=vocabulary) + 1.0
    counts[padding] = 0.0
    tokens = held_out[:, 1:][held_out[:, 1:] != padding]
    return float(np.exp(-np.log(counts[tokens] / counts.sum()).mean()))


def save_language(trained: Trained, folder: Path, *, spec: dict[str, Any]) -> None:
    """As `save_trained`, with the architecture's `config.json` and the tokenizer."""
    save_trained(trained, folder, spec=spec)
    (folder / CONFIG).write_text(trained.model.inner.config.to_json_string(use_diff=False), encoding="utf-8")
    tokenizer = trained.target.tokenizer  # type: ignore[attr-defined]
    if isinstance(tokenizer, SubwordTokenizer):
        tokenizer.save(folder)


def load_language(folder: Path, *, device: str) -> Trained:
    """What `save_language` wrote. Raises `StaleArtifactError` for a folder that is not whole."""
    from .model import model_of_config
    from .target import LanguageTarget

    try:
        record = json.loads((folder / RECORD).read_text(encoding="utf-8"))
        model = model_of_config(json.loads((folder / CONFIG).read_text(encoding="utf-8")))
    except (OSError, ValueError) as error:
        raise StaleArtifactError(f"{folder} cannot be read ({error}): remove the folder and train again") from None
    load_weights(model, folder / WEIGHTS)
    whole = (folder / TOKENIZER_FILE).is_file()
    tokenizer: Tokenizer = read_tokenizer(folder) if whole else ByteTokenizer()
    target = LanguageTarget(model, tokenizer, record["spec"]["length"], device)
    claim = None if record["claim"] is None else claim_from_json(record["claim"])
    return Trained(target.model, target, claim, record["steps"], record["metrics"])


def language_perplexities(
    beginning: Beginning, trained: Trained, data: Rows, inside: BoolArray, held_out: Rows, *, device: str
) -> dict[str, float]:
    """As in `audit.text.TextTrainer`."""
    from .target import LanguageTarget

    tokenizer = tokenizer_of(beginning)
    training, fresh = (token_rows(f, tokenizer, beginning.length) for f in (data.features[inside], held_out.features))
    out = {
        "model": perplexity(trained.target, held_out.features),
        "unigram": unigram_perplexity(training, fresh, tokenizer.vocabulary, tokenizer.padding),
    }
    if beginning.is_public_model:
        start = starting_model(beginning, seeds=Seeds(0), device=device)
        public = LanguageTarget(start, tokenizer, beginning.length, device)
        out["public"] = perplexity(public, held_out.features)
    return out


def private_recipe(recipe: Recipe, protection: Any) -> Recipe:
    """The recipe with clipping and noise."""
    return replace(recipe, protection=protection)
