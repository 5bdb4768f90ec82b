"""From a specification to a fitted model: tokenizer, starting weights (fresh, public, pretrained), fine-tuning."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ...audit.seeds import Seeds
from ...audit.types import BoolArray, Progress, Rows, Trained, silent
from ..checkpoint import Checkpoint
from ..recipe import OptimizerSpec, Recipe, identity
from .corpus import public_texts
from .tokenizer import TOKENIZER_FILE, ByteTokenizer, Tokenizer, fit_bpe, read_tokenizer, token_rows

if TYPE_CHECKING:
    from .adapters import Adapters
    from .defences import Defences
    from .model import LanguageModel, Size
    from .training import Watch


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


@dataclass(frozen=True, slots=True)
class Tuning:
    """A whole fine-tuning: where it begins, its schedule, the adapters it trains instead of all weights, and what is
    done to the text beforehand."""

    beginning: Beginning
    recipe: Recipe
    adapters: Adapters | None = None
    defences: Defences | None = None


@dataclass(frozen=True, slots=True)
class Extra:
    """Records trained on beside those of the data: token rows (records, length), int64, ids from `vocabulary_of` on
    being `tokens` new ones. Defences do not touch them. `enlarge` changes the starting model in place where new tokens
    are to begin otherwise than as `with_extra_tokens` has it."""

    rows: NDArray[np.int64]
    tokens: int = 0
    enlarge: Callable[[LanguageModel], object] | None = None


@dataclass(frozen=True, slots=True)
class Tuned:
    """A fine-tuned model behind its queries, the steps taken, and what was measured."""

    target: Any
    steps: int
    metrics: dict[str, float]


@lru_cache(maxsize=4)
def tokenizer_of(beginning: Beginning) -> Tokenizer:
    """Bytes, a BPE of the public text, or the pretrained model's own."""
    from .pretrained import pretrained_folder

    if beginning.pretrained is not None:
        folder = pretrained_folder(beginning.pretrained, beginning.revision)
        # A model that was saved without a tokenizer reads bytes.
        return read_tokenizer(folder) if (folder / TOKENIZER_FILE).is_file() else ByteTokenizer()
    if beginning.vocabulary is None:
        return ByteTokenizer()
    assert beginning.public is not None
    return fit_bpe(public_texts(beginning.public, beginning.window), beginning.vocabulary)


def vocabulary_of(beginning: Beginning) -> int:
    """Token ids of the model before fine-tuning, padding and the id that hides tokens included: the first id of new
    tokens."""
    tokenizer = tokenizer_of(beginning)
    needed = tokenizer.vocabulary
    if beginning.size.objective == "masked":
        needed = max(needed, tokenizer.mask + 1)
    if beginning.pretrained is None:
        return needed
    from .pretrained import pretrained_folder

    config = pretrained_folder(beginning.pretrained, beginning.revision) / "config.json"
    return max(needed, int(json.loads(config.read_text(encoding="utf-8"))["vocab_size"]))


def starting_model(beginning: Beginning, *, seeds: Seeds, device: str) -> LanguageModel:
    """The model before fine-tuning; without a public model it depends on `seeds`, else on public things alone."""
    if beginning.is_public_model:
        return copy.deepcopy(_public_model(beginning, device))
    return _fresh(beginning, seeds.at("init")).to(device)


def _fresh(beginning: Beginning, seeds: Seeds) -> LanguageModel:
    from .model import fresh_model

    tokenizer, vocabulary = tokenizer_of(beginning), vocabulary_of(beginning)
    return fresh_model(
        beginning.size,
        vocabulary=vocabulary,
        length=beginning.length,
        seeds=seeds,
        padding=tokenizer.padding,
        mask=tokenizer.mask,
    )


# A suite fine-tunes one public model many times.
@lru_cache(maxsize=2)
def _public_model(beginning: Beginning, device: str) -> LanguageModel:
    from .training import tune

    tokenizer = tokenizer_of(beginning)
    seeds = Seeds(beginning.public_seed).at("public")
    model = _fresh(beginning, seeds.at("init")) if beginning.pretrained is None else _pretrained(beginning, seeds)
    model.to(device)
    if beginning.public is not None and beginning.public_epochs > 0:
        rows = public_rows(beginning)
        optimizer = OptimizerSpec("adam", beginning.public_learning_rate, 0.0, 0.0)
        recipe = language_recipe(optimizer, beginning.public_epochs, beginning.public_batch_size, "shuffle", None)
        everything = np.ones(len(rows), dtype=bool)
        tune(model, rows, everything, recipe, padding=tokenizer.padding, seeds=seeds, device=device)
    return model.eval()


def _pretrained(beginning: Beginning, seeds: Seeds) -> LanguageModel:
    from .model import with_extra_tokens
    from .pretrained import pretrained_folder, read_pretrained

    assert beginning.pretrained is not None
    tokenizer = tokenizer_of(beginning)
    model = read_pretrained(
        pretrained_folder(beginning.pretrained, beginning.revision),
        beginning.size.objective,
        seeds=seeds.at("init"),
        padding=tokenizer.padding,
        mask=tokenizer.mask,
    )
    # A tokenizer without padding, or without a token that hides others, gets them past the model's own.
    return with_extra_tokens(model, max(0, vocabulary_of(beginning) - model.vocabulary), seeds.at("extra"))


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
    tuning: Tuning,
    data: Rows,
    inside: BoolArray,
    *,
    seeds: Seeds,
    device: str,
    checkpoint: Path | None = None,
    extra: Extra | None = None,
    progress: Progress = silent,
    watch: Watch | None = None,
) -> Tuned:
    """One model fine-tuned on the rows `inside`, and on all of `extra`. `watch` sees every step's gradients. Resumes
    from `checkpoint`; the public model before it is trained anew."""
    from .adapters import merged, with_adapters
    from .training import tune

    tokenizer = tokenizer_of(tuning.beginning)
    features, inside, metrics = _defended(tuning.defences, data.features, inside, seeds)
    tokens = token_rows(features, tokenizer, tuning.beginning.length)
    chosen = inside
    if extra is not None:
        tokens, chosen = np.concatenate([tokens, extra.rows]), np.append(inside, np.ones(len(extra.rows), bool))
    start = start_of(tuning, extra, seeds=seeds, device=device)
    # Opacus leaves hooks behind, so the result is a clean copy.
    model = copy.deepcopy(start)
    if tuning.adapters is not None:
        start = with_adapters(start, tuning.adapters, seeds.at("adapters"))
    steps = tune(
        start,
        tokens,
        chosen,
        tuning.recipe,
        padding=tokenizer.padding,
        seeds=seeds,
        device=device,
        progress=progress,
        watch=watch,
        store=Checkpoint(checkpoint, _identity(tuning, data, inside, extra, seeds) if checkpoint else ""),
    )
    model.load_state_dict((start if tuning.adapters is None else merged(start)).state_dict())
    target = target_of(model, tokenizer, tuning.beginning.length, device)
    if inside.any():
        metrics["train_perplexity"] = perplexity(target, features[inside])
    return Tuned(target, steps, metrics)


def _identity(tuning: Tuning, data: Rows, inside: BoolArray, extra: Extra | None, seeds: Seeds) -> str:
    digest = hashlib.sha256(identity(tuning.recipe, data, [(inside, seeds)]).encode())
    digest.update(repr((tuning.beginning, tuning.adapters, tuning.defences)).encode())
    if extra is not None:
        digest.update(repr((extra.rows.shape, extra.tokens)).encode() + extra.rows.tobytes())
    return digest.hexdigest()


def start_of(tuning: Tuning, extra: Extra | None, *, seeds: Seeds, device: str) -> LanguageModel:
    """The model that fine-tuning with `extra` starts from: its vocabulary enlarged, without adapters."""
    from .model import with_extra_tokens

    start = starting_model(tuning.beginning, seeds=seeds, device=device)
    if extra is None:
        return start
    if extra.enlarge is None:
        return with_extra_tokens(start, extra.tokens, seeds.at("extra-tokens"))
    extra.enlarge(start)
    return start


def _defended(
    defences: Defences | None, features: NDArray[Any], inside: BoolArray, seeds: Seeds
) -> tuple[NDArray[Any], BoolArray, dict[str, float]]:
    if defences is None:
        return features, inside, {}
    from .defences import defend

    done = defend(features, inside, defences, seeds=seeds.at("defences"))
    return done.features, done.inside, dict(done.metrics)


def target_of(model: LanguageModel, tokenizer: Tokenizer, length: int, device: str) -> Any:
    """`model` behind its queries: a `TextModel` where it is causal."""
    from .masked import MaskedTarget
    from .model import CausalModel, MaskedModel
    from .target import LanguageTarget

    if isinstance(model, MaskedModel):
        return MaskedTarget(model, tokenizer, length, device)
    assert isinstance(model, CausalModel)
    return LanguageTarget(model, tokenizer, length, device)


def perplexity(target: Any, features: NDArray[Any]) -> float:
    """exp of the mean negative log-likelihood of a token, first tokens and padding left out; for a masked model that of
    the hidden tokens."""
    return float(np.exp(-np.nanmean(target.token_log_probabilities(features))))


def unigram_perplexity(training: NDArray[np.int64], told: NDArray[np.int64], vocabulary: int, padding: int) -> float:
    """Perplexity of the tokens `told` (tokens,) under the token frequencies of `training`, one added to each."""
    counts = np.bincount(training[training != padding], minlength=vocabulary) + 1.0
    counts[padding] = 0.0
    return float(np.exp(-np.log(counts[told] / counts.sum()).mean()))


def language_perplexities(
    beginning: Beginning, trained: Trained, data: Rows, inside: BoolArray, held_out: Rows, *, device: str
) -> dict[str, float]:
    """As in `audit.text.TextTrainer`; the unigram is asked for the same tokens as the model."""
    tokenizer, target = tokenizer_of(beginning), trained.target
    training, fresh = (token_rows(f, tokenizer, beginning.length) for f in (data.features[inside], held_out.features))
    logs = target.token_log_probabilities(held_out.features)  # type: ignore[attr-defined]
    told = fresh[~np.isnan(logs)]
    out = {
        "model": float(np.exp(-np.nanmean(logs))),
        "unigram": unigram_perplexity(training, told, tokenizer.vocabulary, tokenizer.padding),
    }
    if beginning.is_public_model:
        start = starting_model(beginning, seeds=Seeds(0), device=device)
        out["public"] = perplexity(target_of(start, tokenizer, beginning.length, device), held_out.features)
    return out
