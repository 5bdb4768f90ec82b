from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.special import log_softmax

from leakgauge.audit.errors import ConfigError, IncompatibleError, PrerequisiteError
from leakgauge.audit.seeds import Seeds
from leakgauge.trainers.data.text import byte_tokens
from leakgauge.trainers.huggingface import load_huggingface_target, prepared

PIXELS = Seeds(5).generator().random((6, 3, 16, 16), dtype=np.float32)


def test_huggingface_sequence_classifier(tmp_path: Path) -> None:
    from transformers import BertConfig, BertForSequenceClassification

    config = BertConfig(
        vocab_size=30, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, num_labels=3
    )
    module = BertForSequenceClassification(config).eval()
    module.save_pretrained(tmp_path / "model")
    target = load_huggingface_target(str(tmp_path / "model"), device="cpu")
    tokens = Seeds(1).generator().integers(1, 30, (5, 8))
    tokens[:, 6:] = 0  # padding
    with torch.no_grad():
        short = module(torch.from_numpy(tokens[:, :6])).logits.numpy()
    np.testing.assert_allclose(target.log_probabilities(tokens), log_softmax(short, axis=1), atol=1e-5)


def test_huggingface_mistakes(tmp_path: Path) -> None:
    from transformers import BertConfig, BertModel

    with pytest.raises(ConfigError, match="needs revision"):
        load_huggingface_target("org/name", device="cpu")
    with pytest.raises(PrerequisiteError, match="cannot be loaded"):
        load_huggingface_target(str(tmp_path), device="cpu")
    config = BertConfig(vocab_size=5, hidden_size=4, num_hidden_layers=1, num_attention_heads=1, intermediate_size=4)
    BertModel(config).save_pretrained(tmp_path / "bare")
    with pytest.raises(IncompatibleError, match="BertModel is no sequence or image classifier"):
        load_huggingface_target(str(tmp_path / "bare"), device="cpu")


def test_tokens_are_wanted(tmp_path: Path) -> None:
    tiny_bert(tmp_path)
    with pytest.raises(IncompatibleError, match="text_encoding"):
        load_huggingface_target(str(tmp_path), device="cpu").log_probabilities(np.zeros((2, 3), np.float32))


def tiny_bert(folder: Path):
    from transformers import BertConfig, BertForSequenceClassification

    config = BertConfig(
        vocab_size=30, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, num_labels=3
    )
    module = BertForSequenceClassification(config).eval()
    module.save_pretrained(folder)
    return module


def test_texts_go_through_the_models_own_tokenizer(tmp_path: Path) -> None:
    from transformers import BertTokenizer

    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "cat", "sat", "##s", "mat"]
    (tmp_path / "vocab.txt").write_text("\n".join(words))
    tokenizer = BertTokenizer(str(tmp_path / "vocab.txt"))
    tokenizer.save_pretrained(tmp_path / "model")
    module = tiny_bert(tmp_path / "model")
    texts = ["the cat sat", "the mats", "", "cat sat the mat the cat"]
    target = load_huggingface_target(str(tmp_path / "model"), device="cpu", tokenize=True)
    answers = target.log_probabilities(byte_tokens(texts, 40))
    for text, answer in zip(texts, answers, strict=True):
        with torch.no_grad():
            logits = module(**tokenizer(text, return_tensors="pt")).logits.numpy()
        np.testing.assert_allclose(answer, log_softmax(logits, axis=1)[0], atol=1e-5)


def tiny_image_models():
    from transformers import (
        ResNetConfig,
        ResNetForImageClassification,
        ViTConfig,
        ViTForImageClassification,
    )

    vit = ViTConfig(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, image_size=16, patch_size=8,
        num_labels=4,
    )  # fmt: skip
    resnet = ResNetConfig(embedding_size=8, hidden_sizes=[8, 8], depths=[1, 1], layer_type="basic", num_labels=4)
    return {"vit": ViTForImageClassification(vit), "resnet": ResNetForImageClassification(resnet)}


@pytest.mark.parametrize("kind", ["vit", "resnet"])
def test_huggingface_image_classifiers(tmp_path: Path, kind: str) -> None:
    module = tiny_image_models()[kind].eval()
    module.save_pretrained(tmp_path)
    plain = load_huggingface_target(str(tmp_path), device="cpu").log_probabilities(PIXELS)
    with torch.no_grad():
        expected = log_softmax(module(torch.from_numpy(PIXELS)).logits.numpy(), axis=1)
    np.testing.assert_allclose(plain, expected, atol=1e-5)
    steps = {"do_normalize": True, "image_mean": [0.5, 0.4, 0.3], "image_std": [0.2, 0.3, 0.4], "do_rescale": True}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps({**steps, "rescale_factor": 1 / 255}))
    normal = load_huggingface_target(str(tmp_path), device="cpu").log_probabilities(PIXELS)
    mean, spread = (np.array(steps[k], np.float32)[:, None, None] for k in ("image_mean", "image_std"))
    with torch.no_grad():
        expected = log_softmax(module(torch.from_numpy((PIXELS - mean) / spread)).logits.numpy(), axis=1)
    np.testing.assert_allclose(normal, expected, atol=1e-5)
    with pytest.raises(IncompatibleError, match="channels, height, width"):
        load_huggingface_target(str(tmp_path), device="cpu").log_probabilities(PIXELS[:, 0, 0])


def test_grey_pictures_for_a_model_of_colours(tmp_path: Path) -> None:
    module = tiny_image_models()["resnet"].eval()
    module.save_pretrained(tmp_path)
    target = load_huggingface_target(str(tmp_path), device="cpu")
    grey = PIXELS[:, :1]
    np.testing.assert_array_equal(target.log_probabilities(grey), target.log_probabilities(np.repeat(grey, 3, axis=1)))


def test_preparation_equals_the_image_processor_of_transformers() -> None:
    """Pillow rounds to 8 bits after resizing, so answers agree to a few steps of 1/255 only."""
    from PIL import Image

    smooth = np.linspace(0, 1, 24, dtype=np.float32)
    pixels = np.stack([np.add.outer(smooth, smooth) / 2, np.outer(smooth, smooth), np.outer(smooth, 1 - smooth)])
    steps = {"do_resize": True, "size": {"height": 16, "width": 12}, "resample": 2, "do_rescale": True}
    ours = prepared(torch.from_numpy(pixels[None]), steps)[0].numpy()
    for channel, answer in zip(pixels, ours, strict=True):
        grey = Image.fromarray(np.rint(channel * 255).astype(np.uint8)).resize((12, 16), Image.Resampling.BILINEAR)
        assert np.abs(np.asarray(grey) / 255 - answer).max() < 2.5 / 255


def test_shortest_edge_and_crop() -> None:
    pixels = torch.from_numpy(PIXELS)[:, :, :, :12]
    steps = {"do_resize": True, "size": {"shortest_edge": 24}, "do_center_crop": True, "crop_size": 20}
    assert tuple(prepared(pixels, steps).shape) == (6, 3, 20, 20)
    cropped = prepared(pixels, {"do_center_crop": True, "crop_size": {"height": 8, "width": 8}})
    np.testing.assert_allclose(cropped.numpy(), PIXELS[:, :, 4:12, 2:10], rtol=1e-6)
    with pytest.raises(IncompatibleError, match="smaller than the model's crop"):
        prepared(pixels, {"do_center_crop": True, "crop_size": 50})
    raw = prepared(pixels, {"do_rescale": False})
    np.testing.assert_allclose(raw.numpy(), pixels.numpy() * 255, rtol=1e-6)


def test_gradients_reach_the_weights_through_the_preparation(tmp_path: Path) -> None:
    """White-box queries see the module as it is asked: pixels prepared, padding masked, bytes tokenized."""
    from leakgauge.attacks.membership.queries import GradientNorms
    from leakgauge.audit.types import Rows, Trained

    def norms(folder: Path, features: np.ndarray) -> np.ndarray:
        target = load_huggingface_target(str(folder), device="cpu")
        rows = Rows(features, np.array([0, 1, 2]), ("a", "b", "c"), 3)
        return GradientNorms().ask(Trained(target.module, target, None, 0), rows, seeds=Seeds(1), device="cpu")

    module = tiny_image_models()["vit"].eval()
    module.save_pretrained(tmp_path / "vit")
    steps = {"do_normalize": True, "image_mean": [0.5] * 3, "image_std": [0.1] * 3}
    (tmp_path / "vit" / "preprocessor_config.json").write_text(json.dumps(steps))
    found = norms(tmp_path / "vit", PIXELS[:3])
    for record, label, answer in zip(PIXELS[:3], range(3), found, strict=True):
        pixels = torch.from_numpy(record[None]).requires_grad_()
        module.zero_grad()
        loss = torch.nn.functional.cross_entropy(module((pixels - 0.5) / 0.1).logits, torch.tensor([label]))
        loss.backward()
        assert answer[0] == pytest.approx(float(pixels.grad.norm()), rel=1e-3)
        whole = sum(float(p.grad.square().sum()) for p in module.parameters() if p.grad is not None) ** 0.5
        assert np.sqrt(np.square(answer[1:]).sum()) == pytest.approx(whole, rel=1e-3)
    bert = tiny_bert(tmp_path / "bert")
    tokens = Seeds(1).generator().integers(1, 30, (3, 8))
    tokens[1:, 5:] = 0
    found = norms(tmp_path / "bert", tokens)
    for record, label, answer in zip(tokens, range(3), found, strict=True):
        bert.zero_grad()
        kept = torch.from_numpy(record[record != 0][None])
        torch.nn.functional.cross_entropy(bert(kept).logits, torch.tensor([label])).backward()
        whole = sum(float(p.grad.square().sum()) for p in bert.parameters() if p.grad is not None) ** 0.5
        assert np.sqrt(np.square(answer[1:]).sum()) == pytest.approx(whole, rel=1e-3)
