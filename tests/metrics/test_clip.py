"""CLIP against the plain calls of open_clip, and texts that are too long for it."""

import json
from dataclasses import replace

import pytest
import torch
from models import save_clip, toy_clip

from edgesplit.common.errors import InputError
from edgesplit.metrics import clip as ours

TEXTS = ["a photo of a golden dog with floppy ears in snow", "a photo of a black masked dog at night"]
LONG = " ".join(["a white spotted dog with round ears"] * 8)


@pytest.fixture(scope="module")
def toy():
    return ours.load_clip(toy_clip())


def plain(toy, images, texts):
    """open_clip's own preprocessing, encoders and tokenizer, one picture and text at a time."""
    import open_clip
    from torchvision.transforms.functional import to_pil_image

    model, _, preprocess = open_clip.create_model_and_transforms(f"local-dir:{toy_clip()}")
    tokenizer = open_clip.get_tokenizer(f"local-dir:{toy_clip()}")
    model.eval()
    with torch.no_grad():
        seen = [model.encode_image(preprocess(to_pil_image(image))[None], normalize=True) for image in images]
        read = [model.encode_text(tokenizer([text]), normalize=True) for text in texts]
    return torch.tensor([float((s * r).sum()) for s, r in zip(seen, read, strict=True)])


def test_similarity_is_open_clip_s(toy):
    images = torch.rand(2, 3, 96, 96, generator=torch.Generator().manual_seed(0))
    images = (images * 255).round() / 255  # what a PIL image can hold
    similarity = ours.similarity(toy.image_features(images), toy.text_features(TEXTS))
    torch.testing.assert_close(similarity, plain(toy, images, TEXTS), atol=1e-5, rtol=0)


@pytest.mark.parametrize("side", [48, 96, 250])
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_pictures_are_scaled_as_open_clip_scales_them(toy, side, interpolation):
    import open_clip
    from torchvision.transforms.functional import to_pil_image

    encoder = replace(toy.encoder, interpolation=interpolation)
    smooth = torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    image = torch.nn.functional.interpolate(smooth, size=side, mode="bicubic").clamp(0, 1)
    plain = open_clip.image_transform(96, False, (0.5,) * 3, (0.5,) * 3, interpolation=interpolation)
    difference = encoder.prepare(image)[0] - plain(to_pil_image(image[0]))
    assert float(difference.abs().max()) < 2 * 2.5 / 255  # PIL rounds the picture, its rows and its columns


def test_each_text_is_encoded_once(toy, monkeypatch):
    calls = []
    monkeypatch.setattr(ours.Clip, "_encode", lambda self, text: calls.append(text) or torch.ones(3))
    clip = ours.Clip(toy.encoder, toy.tokenizer)
    clip.text_features(TEXTS * 3)
    clip.text_features(TEXTS)
    assert calls == TEXTS


def test_a_text_that_would_be_cut_is_refused(toy):
    with pytest.raises(InputError, match=r"found 56 tokens, accepted: 22 .*--long-prompts window"):
        toy.text_features([LONG])


def test_windows_hold_every_word_and_fit(toy):
    parts = list(ours.windows(toy.tokenizer, LONG))
    assert " ".join(parts) == LONG
    assert len(parts) == 3
    assert all(ours.token_count(toy.tokenizer, part) <= toy.tokenizer.context_length for part in parts)


@pytest.mark.parametrize("text", ["狗" * 400, f"a photo of {'x' * 500} in snow", "é" * 300])
@pytest.mark.parametrize("name", ["toy", "ViT-L-14"])
def test_words_longer_than_a_window_are_split_and_lose_nothing(toy, name, text):
    import open_clip

    tokenizer = toy.tokenizer if name == "toy" else open_clip.get_tokenizer(name)
    parts = list(ours.windows(tokenizer, text))
    assert "".join(parts).replace(" ", "") == text.replace(" ", "")
    assert all(ours.token_count(tokenizer, part) <= tokenizer.context_length for part in parts)


def test_a_text_in_windows_is_the_mean_of_their_directions(toy):
    windowed = ours.Clip(toy.encoder, toy.tokenizer, "window")
    mean = toy.text_features(list(ours.windows(toy.tokenizer, LONG))).mean(dim=0)
    torch.testing.assert_close(windowed.text_features([LONG])[0], mean / mean.norm())


def test_real_clip_s_tokens_are_counted_as_its_tokenizer_makes_them():
    import open_clip

    tokenizer = open_clip.get_tokenizer("ViT-L-14")
    text = "a photo of an extraordinarily fluffy dog"
    assert ours.token_count(tokenizer, text) == int((tokenizer([text]) != 0).sum())
    assert ours.token_count(tokenizer, "dog " * 100) == 102  # where the tokenizer itself would cut to 77


@pytest.mark.parametrize("reference", ["ViT-L-99/openai", "no/such", "/nowhere"])
def test_a_clip_that_cannot_be_had_is_refused_in_one_line(reference):
    with pytest.raises(InputError, match=f"CLIP '{reference}': .*accepted: such as ViT-B-32/openai") as caught:
        ours.load_clip(reference)
    assert "\n" not in str(caught.value)


def test_weights_that_cannot_be_downloaded_are_named_with_their_place(monkeypatch):
    import huggingface_hub

    def fail(*_, **__):
        raise OSError("Network is unreachable")

    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda **_: None)
    monkeypatch.setattr(huggingface_hub, "get_hf_file_metadata", fail)
    files = r"open_clip_model\.safetensors .*of timm/vit_large_patch14_clip_224\.openai"
    with pytest.raises(InputError, match=rf"CLIP 'ViT-L-14/openai': cannot download .* put {files} .*into a folder"):
        ours.load_clip("ViT-L-14/openai")


@pytest.mark.parametrize("options", [{}, {"tokenizer_kwargs": {"trust_remote_code": True}}])
def test_no_code_in_a_clip_s_folder_is_run(tmp_path, options):
    """Whether its configuration asks for it or not; nor is anybody asked for leave."""
    folder = save_clip(tmp_path / "clip")
    config = json.loads((folder / "open_clip_config.json").read_text())
    config["model_cfg"]["text_cfg"] |= options
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    words = json.loads((folder / "tokenizer_config.json").read_text())
    words |= {"auto_map": {"AutoTokenizer": ["own.Own", None]}, "tokenizer_class": "Own"}
    (folder / "tokenizer_config.json").write_text(json.dumps(words))
    sprung = tmp_path / "sprung"
    (folder / "own.py").write_text(
        f"from pathlib import Path\nfrom transformers import CLIPTokenizer\nPath({str(sprung)!r}).touch()\n\n\n"
        "class Own(CLIPTokenizer):\n    pass\n"
    )
    with pytest.raises(InputError, match="cannot load its tokenizer") as caught:
        ours.load_clip(str(folder))
    assert "\n" not in str(caught.value)
    assert not sprung.exists()


def test_no_pickle_in_a_clip_s_folder_is_read(tmp_path, trap):
    folder = save_clip(tmp_path / "clip")
    for name in ("open_clip_pytorch_model.bin", "pytorch_model.bin", "tokenizer.pkl", "model.pt"):
        (folder / name).write_bytes(trap)
    expected = ours.load_clip(save_clip(tmp_path / "same")).text_features(TEXTS)
    assert torch.equal(ours.load_clip(str(folder)).text_features(TEXTS), expected)
