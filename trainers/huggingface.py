"""Hugging Face classifiers of sequences and images, and causal language models, as targets. Their code is never run,
their pickles never read."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from ..audit.errors import ConfigError, IncompatibleError, PrerequisiteError
from ..audit.types import Target
from .language.existing import CAUSAL, load_language_target
from .targets import TorchTarget, as_logits

LARGEST_BYTE = 255


def load_huggingface_target(
    source: str, *, revision: str | None = None, device: str, tokenize: bool = False, text_length: int | None = None
) -> Target:
    """A sequence or image classifier or a causal language model, from a local folder or by name at a pinned revision.

    A sequence classifier reads token ids (records, length), padding included; with `tokenize` it reads UTF-8 bytes
    (`data.text_encoding = "bytes"`), which its own tokenizer turns into tokens. An image classifier reads pixels
    (records, channels, height, width) in [0, 1], prepared as its `preprocessor_config.json` says, if it has one. A
    language model reads UTF-8 bytes, cut at `text_length` tokens.
    """
    from transformers import AutoConfig, AutoModelForImageClassification, AutoModelForSequenceClassification

    local = Path(source).is_dir()
    if not local and revision is None:
        raise ConfigError(
            f"target.huggingface = {source!r} needs revision (a commit), so that the audit names one model"
        )
    options: dict[str, Any] = {"revision": revision, "local_files_only": local, "trust_remote_code": False}
    try:
        config = AutoConfig.from_pretrained(source, **options)
        kinds = {
            "SequenceClassification": AutoModelForSequenceClassification,
            "ImageClassification": AutoModelForImageClassification,
        }
        architecture = (config.architectures or ["none"])[0]
        kind = next((ending for ending in kinds if architecture.endswith(ending)), None)
        if architecture.endswith(CAUSAL):
            return load_language_target(source, revision, length=text_length, device=device)
        if kind is None:
            raise IncompatibleError(
                f"target.huggingface: {architecture} is no sequence or image classifier and no causal language model"
            )
        module = kinds[kind].from_pretrained(source, use_safetensors=True, **options)
        if kind == "ImageClassification":
            return TorchTarget(OfPixels(module, _preparation(source, options)), device)
        if not tokenize:
            return SequenceTarget(OfTokens(module), device)
        from transformers import AutoTokenizer

        return SequenceTarget(OfTexts(module, AutoTokenizer.from_pretrained(source, **options)), device)
    except (OSError, ValueError) as error:
        raise PrerequisiteError(
            f"target.huggingface: {source!r} cannot be loaded: {' '.join(str(error).split())[:300]}"
        ) from None


class SequenceTarget(TorchTarget):
    """Token ids, or bytes, to a sequence classifier."""

    def log_probabilities(self, features: NDArray[Any]) -> NDArray[np.float32]:
        """As in `Target`. Raises `IncompatibleError` for features that are no tokens."""
        if not np.issubdtype(features.dtype, np.integer):
            raise IncompatibleError(
                f"target.huggingface: a sequence classifier reads tokens, got {features.dtype} features; set "
                "data.text_encoding = 'bytes' and target.tokenize = true"
            )
        return super().log_probabilities(features)


class OfTokens(nn.Module):
    """A sequence classifier of token ids (records, length), with the attention mask that follows from the padding."""

    def __init__(self, classifier: nn.Module) -> None:
        super().__init__()
        self.classifier = classifier

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits (records, classes)."""
        padding = getattr(self.classifier.config, "pad_token_id", None)
        mask = None if padding is None else (tokens != padding).long()
        return as_logits(self.classifier(input_ids=tokens, attention_mask=mask), len(tokens))


class OfTexts(nn.Module):
    """A sequence classifier of UTF-8 bytes (records, length), anything above 255 being padding: its tokenizer makes
    tokens of them."""

    def __init__(self, classifier: nn.Module, tokenizer: Any) -> None:
        super().__init__()
        self.classifier, self.tokenizer = classifier, tokenizer

    def forward(self, given: Tensor) -> Tensor:
        """Logits (records, classes)."""
        texts = [bytes(row[row <= LARGEST_BYTE].tolist()).decode("utf-8", "replace") for row in given.cpu()]
        longest = getattr(self.classifier.config, "max_position_embeddings", None)
        tokens = self.tokenizer(texts, padding=True, truncation=True, max_length=longest, return_tensors="pt")
        return as_logits(self.classifier(**tokens.to(given.device)), len(given))


class OfPixels(nn.Module):
    """An image classifier of pixels in [0, 1], prepared inside, so that gradients reach the pixels."""

    def __init__(self, classifier: nn.Module, preparation: Mapping[str, Any]) -> None:
        super().__init__()
        self.classifier, self.preparation = classifier, preparation

    def forward(self, pixels: Tensor) -> Tensor:
        """Logits (records, classes)."""
        if pixels.dim() != 4:
            raise IncompatibleError(
                "target.huggingface: an image classifier reads (channels, height, width), got records of shape "
                f"{tuple(pixels.shape[1:])}"
            )
        channels = getattr(self.classifier.config, "num_channels", pixels.shape[1])
        if pixels.shape[1] == 1 and channels == 3:
            pixels = pixels.expand(-1, 3, -1, -1)
        return as_logits(self.classifier(prepared(pixels, self.preparation)), len(pixels))


def _preparation(source: str, options: Mapping[str, Any]) -> Mapping[str, Any]:
    """The image processor's configuration; empty where the model has none."""
    from transformers.image_processing_base import ImageProcessingMixin

    try:
        found, _ = ImageProcessingMixin.get_image_processor_dict(source, **options)
    except OSError:
        return {}
    return dict(found)


def prepared(pixels: Tensor, preparation: Mapping[str, Any]) -> Tensor:
    """Pixels (records, channels, height, width) in [0, 1] as the image processor would give them.

    Torch's bilinear or bicubic resizing with antialiasing stands in for Pillow's, which rounds to 8 bits in between.
    """
    if preparation.get("do_resize") and (size := _resized(preparation.get("size"), pixels.shape[-2:])):
        mode = "bicubic" if preparation.get("resample") == 3 else "bilinear"
        if size != tuple(pixels.shape[-2:]):
            pixels = functional.interpolate(pixels, size, mode=mode, antialias=True, align_corners=False)
    if preparation.get("do_center_crop") and (size := _resized(preparation.get("crop_size"), None)):
        top, left = ((have - want) // 2 for have, want in zip(pixels.shape[-2:], size, strict=True))
        if min(top, left) < 0:
            raise IncompatibleError(
                f"target.huggingface: images of {tuple(pixels.shape[-2:])} are smaller than the model's crop {size}"
            )
        pixels = pixels[..., top : top + size[0], left : left + size[1]]
    if preparation:
        # Pixels come divided by 255; a processor starts from 0 to 255 and multiplies with what it says.
        scale = float(preparation.get("rescale_factor", 1 / 255)) if preparation.get("do_rescale", True) else 1.0
        pixels = pixels * (255.0 * scale)
    if preparation.get("do_normalize"):
        mean, spread = (
            torch.tensor(preparation[key], dtype=pixels.dtype, device=pixels.device)[:, None, None]
            for key in ("image_mean", "image_std")
        )
        pixels = (pixels - mean) / spread
    return pixels


def _resized(size: Any, now: tuple[int, ...] | None) -> tuple[int, int] | None:
    """(height, width) that a processor's `size` asks for; None where it asks for nothing that is known here."""
    if isinstance(size, int):
        return size, size
    if not isinstance(size, Mapping):
        return None
    if "height" in size and "width" in size:
        return int(size["height"]), int(size["width"])
    if "shortest_edge" in size and now is not None:
        scale = int(size["shortest_edge"]) / min(now)
        return round(now[0] * scale), round(now[1] * scale)
    return None
