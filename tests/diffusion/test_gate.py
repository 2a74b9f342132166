"""The gate's CLIP: safetensors only, any device, refusals in one line and without waiting for a network."""

import json
import shutil

import pytest
import torch
from models import save_clip, toy_clip
from PIL import Image

from edgesplit.common.errors import InputError
from edgesplit.diffusion.inference.clip_images import load_image_encoder
from edgesplit.diffusion.inference.pictures import as_pil
from edgesplit.diffusion.train.gate import similarity


@pytest.fixture(scope="module")
def encoder():
    return load_image_encoder(toy_clip())


@pytest.fixture
def folder(tmp_path):
    return save_clip(tmp_path / "clip")


def test_pictures_stay_on_their_device(encoder):
    """The meta device stands for a GPU: mean and deviation follow the pictures there."""
    prepared = encoder.prepare(torch.empty(2, 3, 48, 48, device="meta"))
    assert prepared.device.type == "meta"
    assert prepared.shape == (2, 3, encoder.side, encoder.side)


def test_features_are_those_of_open_clips_own_transform(encoder):
    from open_clip.transform import PreprocessCfg, image_transform_v2

    images = torch.rand(3, 3, 48, 48, generator=torch.Generator().manual_seed(0))
    images = (images * 255).round() / 255
    transform = image_transform_v2(PreprocessCfg(**encoder.clip.visual.preprocess_cfg), is_train=False)
    pictures: list[Image.Image] = [as_pil(image) for image in images]
    expected = torch.stack([transform(picture) for picture in pictures])
    assert float((encoder.prepare(images) - expected).abs().max()) < 0.02  # PIL rounds to whole values
    seen = encoder.features(images)
    torch.testing.assert_close(seen.norm(dim=1), torch.ones(3), atol=1e-4, rtol=0)
    assert similarity(seen, seen) <= 1 + 1e-6


@pytest.mark.parametrize("name", ["open_clip_pytorch_model.bin", "model.pth"])
def test_pickled_weights_are_refused(folder, trap, name):
    (folder / "open_clip_model.safetensors").unlink()
    (folder / name).write_bytes(trap)
    with pytest.raises(InputError, match="found no safetensors weights, accepted: open_clip_model"):
        load_image_encoder(str(folder))


def test_a_folder_without_weights_does_not_pass_for_a_network_with_random_ones(folder):
    (folder / "open_clip_model.safetensors").unlink()
    with pytest.raises(InputError, match="found no safetensors weights"):
        load_image_encoder(str(folder))


@pytest.mark.parametrize("text", ["", "[]", "{}", json.dumps({"model_cfg": {"embed_dim": "wide"}})])
def test_a_broken_configuration_is_refused_in_one_line(folder, text):
    (folder / "open_clip_config.json").write_text(text)
    with pytest.raises(InputError, match="cannot load") as caught:
        load_image_encoder(str(folder))
    assert "\n" not in str(caught.value)


def test_a_pickle_that_is_named_safetensors_is_refused(folder, trap):
    (folder / "open_clip_model.safetensors").write_bytes(trap)
    with pytest.raises(InputError, match="cannot load"):
        load_image_encoder(str(folder))


def test_damaged_weights_are_refused_in_one_line(folder):
    path = folder / "open_clip_model.safetensors"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(InputError, match="cannot load") as caught:
        load_image_encoder(str(folder))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["nowhere", "ViT-B-32", "ViT-B-32/", "ViT-B-32/no-such-tag", "ViT-B-32//tmp/model.pt"])
def test_what_is_neither_a_folder_nor_a_known_model_is_refused(name):
    with pytest.raises(InputError, match="neither a folder here nor an open_clip model, accepted: such as ViT-B-32"):
        load_image_encoder(name)


@pytest.mark.parametrize("offline", [True, False])
def test_a_hub_that_cannot_be_reached_is_one_line_that_says_what_to_put_where(tmp_path, monkeypatch, capfd, offline):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", offline)
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")  # nobody listens there
    monkeypatch.setattr("time.sleep", lambda _: pytest.fail("it tries again"))
    place = "put open_clip_model.safetensors and open_clip_config.json of timm/vit_base_patch32_clip_224.openai"
    with pytest.raises(InputError, match=place) as caught:
        load_image_encoder("ViT-B-32/openai")
    assert "\n" not in str(caught.value)
    assert capfd.readouterr().err == ""


def test_a_cached_model_is_loaded_without_a_network(tmp_path, folder, monkeypatch):
    """With the weights' own normalisation; the toy world's CLIP stands for the published one."""
    repository, commit = tmp_path / "models--someone--clip", "0" * 40
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text(commit)
    snapshot = repository / "snapshots" / commit
    snapshot.mkdir(parents=True)
    shutil.copy(folder / "open_clip_model.safetensors", snapshot)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("open_clip.get_pretrained_cfg", lambda *_: {"hf_hub": "someone/clip/", "mean": (0.1, 0.2, 0.3)})
    config = json.loads((folder / "open_clip_config.json").read_text())["model_cfg"]
    monkeypatch.setattr("open_clip.factory.get_model_config", lambda _: config)
    encoder = load_image_encoder("toy/someone")
    assert encoder.mean.tolist() == pytest.approx([0.1, 0.2, 0.3])
    own = load_image_encoder(str(folder))
    for name, weight in own.clip.state_dict().items():
        assert torch.equal(weight, encoder.clip.state_dict()[name]), name
