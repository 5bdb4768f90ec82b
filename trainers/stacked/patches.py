"""Patches of channels-last images, so that a convolution is a batched matrix product."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

from .plan import Parametric

if TYPE_CHECKING:
    from torch import Tensor


class _Patches:
    """Copies (models, width, height, width, channels) into patches; its derivative adds them back."""

    @staticmethod
    def cut(padded: Tensor, layer: Parametric) -> Tensor:
        """(models, width, rows, columns, kernel height * kernel width * channels)."""
        assert layer.kernel is not None
        (kh, kw), (sh, sw) = layer.kernel, layer.stride
        models, width, height, breadth, channels = padded.shape
        rows, columns = (height - kh) // sh + 1, (breadth - kw) // sw + 1
        m, b, h, w, c = padded.stride()
        view = padded.as_strided(
            (models, width, rows, columns, kh, kw, channels), (m, b, h * sh, w * sw, h, w, c), padded.storage_offset()
        )
        return view.reshape(models, width, rows, columns, -1)

    @staticmethod
    def add_back(patches: Tensor, shape: Sequence[int], layer: Parametric) -> Tensor:
        """The transpose of `cut`."""
        assert layer.kernel is not None
        (kh, kw), (sh, sw) = layer.kernel, layer.stride
        rows, columns = patches.shape[2:4]
        cells = patches.view(*patches.shape[:4], kh, kw, shape[-1])
        out = patches.new_zeros(shape)
        for i in range(kh):
            for j in range(kw):
                out[:, :, i : i + sh * rows : sh, j : j + sw * columns : sw] += cells[:, :, :, :, i, j]
        return out


def cut_patches(x: Tensor, layer: Parametric) -> Tensor:
    """Patches of channels-last images (models, width, height, width, channels), padded as the convolution asks:
    (models, width, rows, columns, kernel height * kernel width * channels). Differentiable."""
    from torch.nn.functional import pad

    height, width = layer.padding
    padded = pad(x, (0, 0, width, width, height, height)) if height or width else x.contiguous()
    return cast("Tensor", _function().apply(padded, layer))


_FUNCTION: Any = None


def _function() -> Any:
    """The autograd function around `_Patches`, made on first use so that importing this module imports no torch."""
    global _FUNCTION
    if _FUNCTION is None:
        import torch

        class PatchFunction(torch.autograd.Function):
            """`_Patches` with its derivative."""

            @staticmethod
            def forward(ctx: Any, padded: Tensor, layer: Parametric) -> Tensor:
                """Cut."""
                ctx.shape, ctx.layer = padded.shape, layer
                return _Patches.cut(padded, layer)

            @staticmethod
            def backward(ctx: Any, *outputs: Any) -> Any:
                """Add back."""
                return _Patches.add_back(outputs[0].contiguous(), ctx.shape, ctx.layer), None

        _FUNCTION = PatchFunction
    return _FUNCTION
