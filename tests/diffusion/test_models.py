"""Loading models: safetensors only, every refusal in one line, LoRAs on their own base."""

import json
import shutil

import pytest
import torch
from models import as_model, make_pipeline

from edgesplit.common.errors import InputError
from edgesplit.diffusion.inference.batch import generate
from edgesplit.diffusion.inference.lora import add_lora
from edgesplit.diffusion.inference.models import load_model, weights_digest
from edgesplit.diffusion.inference.sampling import Sampling


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model") / "base"
    make_pipeline(seed=5).save_pretrained(folder)
    return folder


@pytest.fixture
def copy(saved, tmp_path):
    return shutil.copytree(saved, tmp_path / "copy")


def picture(model):
    return generate(model, ["a photo of dog in snow"], [1], Sampling(total_steps=3, guidance_scale=2.0))


def test_a_loaded_model_makes_the_pictures_of_the_saved_one(saved):
    torch.testing.assert_close(picture(load_model(saved)), picture(as_model(make_pipeline(seed=5))), atol=1e-5, rtol=0)


@pytest.mark.parametrize("dtype", ["fp16", "bf16"])
def test_a_model_loads_in_half_precision(saved, dtype):
    model = load_model(saved, dtype=dtype, subject="cat")
    assert model.dtype == {"fp16": torch.float16, "bf16": torch.bfloat16}[dtype]
    assert model.prompt("a photo of {subject}") == "a photo of cat"


def test_prompts_over_the_limit_are_refused_and_at_the_limit_are_not(saved):
    model = load_model(saved)
    model.check_prompts(["a photo of dog " + "on " * 18])
    with pytest.raises(InputError, match="found 23 tokens, accepted: 22"):
        model.check_prompts(["a photo of dog " + "on " * 19])


def pickled(folder):
    path = folder / "unet" / "diffusion_pytorch_model.safetensors"
    path.rename(path.with_suffix(".bin"))


def cut_short(folder):
    path = folder / "unet" / "diffusion_pytorch_model.safetensors"
    path.write_bytes(path.read_bytes()[:1000])


def kandinsky(folder):
    index = json.loads((folder / "model_index.json").read_text())
    (folder / "model_index.json").write_text(json.dumps(index | {"_class_name": "KandinskyPipeline"}))


def sideless(folder):
    path = folder / "unet" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"sample_size": None}))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (pickled, "unet: found pickled weights, accepted: safetensors only"),
        (cut_short, "cannot load"),
        (kandinsky, "found a model for 'KandinskyPipeline', accepted: models of Stable Diff"),
        (lambda folder: (folder / "model_index.json").unlink(), "found no model_index.json"),
        (lambda folder: (folder / "model_index.json").write_text("{"), "cannot load"),
        (lambda folder: (folder / "model_index.json").write_text("[]"), "found a list, accepted: an object"),
        (lambda folder: (folder / "model_index.json").write_text("{}"), "found a model for None, accepted: models"),
        (sideless, "unet: found sample_size None, accepted"),
        (lambda folder: (folder / "unet" / "config.json").write_text("{"), "cannot load"),
        (lambda folder: (folder / "edgesplit.json").write_text("[]"), "found no settings"),
    ],
)
def test_a_folder_that_is_not_a_whole_model_is_refused(copy, spoil, message):
    spoil(copy)
    with pytest.raises(InputError, match=message) as caught:
        load_model(copy)
    assert "\n" not in str(caught.value)
    assert str(copy) in str(caught.value)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("no/such/folder", "no such folder"),
        ("./nowhere", "no such folder"),
        ("someone/a-model", r"cannot load .*a hub id that this machine can reach"),
    ],
)
def test_a_model_that_cannot_be_had_is_refused(name, message, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(InputError, match=message) as caught:
        load_model(name)
    assert "\n" not in str(caught.value)


def test_an_unsupported_class_on_the_hub_is_refused_by_name_before_its_weights_are_asked_for(tmp_path, monkeypatch):
    """A hub cache with the index of a Kandinsky model and nothing else."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    repository, commit = tmp_path / "models--someone--other", "0" * 40
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text(commit)
    index = repository / "snapshots" / commit / "model_index.json"
    index.parent.mkdir(parents=True)
    index.write_text(json.dumps({"_class_name": "KandinskyPipeline"}))
    with pytest.raises(InputError, match="someone/other: found a model for 'KandinskyPipeline', accepted"):
        load_model("someone/other")


def test_a_checkpoint_file_is_refused(tmp_path):
    (tmp_path / "model.ckpt").write_bytes(b"\x80\x04K\x01.")
    with pytest.raises(InputError, match="found a file, accepted: a folder"):
        load_model(tmp_path / "model.ckpt")


def save_lora(folder, base, seed, rank=2, channels=4):
    """A LoRA with random weights, as dreambooth writes it."""
    torch.manual_seed(seed)
    unet = add_lora("unet", make_pipeline(seed=5, channels=channels).unet, rank)
    with torch.no_grad():
        for name, parameter in unet.named_parameters():
            if "lora_" in name:
                parameter.normal_(std=0.3)
    unet.save_pretrained(folder / "unet")
    (folder / "edgesplit.json").write_text(json.dumps({"base": str(base), "subject": "sks dog"}))
    return unet


def test_a_lora_is_merged_into_its_base(saved, tmp_path):
    unet = save_lora(tmp_path, saved, seed=0)
    model = load_model(tmp_path)
    assert model.subject == "sks dog"
    adapted = as_model(make_pipeline(seed=5))
    adapted.__dict__["unet"] = unet.eval()
    torch.testing.assert_close(picture(model), generate_with(adapted, unet), atol=1e-4, rtol=0)
    assert float((picture(model) - picture(load_model(saved))).abs().max()) > 1e-3


def generate_with(model, unet):
    """The picture through peft's own forward pass, adapters beside the weights."""
    merged = unet.merge_and_unload()
    return picture(type(model)(**(vars(model) | {"unet": merged})))


def test_a_lora_for_another_base_is_refused(saved, tmp_path):
    from diffusers import UNet2DConditionModel

    wider = UNet2DConditionModel.from_config(make_pipeline().unet.config, cross_attention_dim=32)
    add_lora("unet", wider, 2).save_pretrained(tmp_path / "unet")
    (tmp_path / "edgesplit.json").write_text(json.dumps({"base": str(saved)}))
    with pytest.raises(InputError, match=r"found shape \(2, 32\), which does not fit the unet of its base"):
        load_model(tmp_path)


def test_a_lora_with_layers_that_the_base_lacks_is_refused(saved, tmp_path):
    from diffusers import UNet2DConditionModel

    deeper = UNet2DConditionModel.from_config(make_pipeline().unet.config, layers_per_block=2)
    add_lora("unet", deeper, 2).save_pretrained(tmp_path / "unet")
    (tmp_path / "edgesplit.json").write_text(json.dumps({"base": str(saved)}))
    with pytest.raises(InputError, match="no layer"):
        load_model(tmp_path)


def test_a_lora_for_a_base_with_other_weights_is_refused(saved, tmp_path):
    save_lora(tmp_path / "lora", saved, seed=0)
    settings = {"base": str(saved), "base_digest": weights_digest(*parts(make_pipeline(seed=5)))}
    (tmp_path / "lora" / "edgesplit.json").write_text(json.dumps(settings))
    load_model(tmp_path / "lora")
    make_pipeline(seed=6).save_pretrained(tmp_path / "other")
    (tmp_path / "lora" / "edgesplit.json").write_text(json.dumps(settings | {"base": str(tmp_path / "other")}))
    with pytest.raises(InputError, match="its LoRA was made for a base with weights") as caught:
        load_model(tmp_path / "lora")
    assert str(tmp_path / "other") in str(caught.value)
    (tmp_path / "lora" / "edgesplit.json").write_text(json.dumps({"base": str(tmp_path / "other")}))
    load_model(tmp_path / "lora")  # an adapter that does not say what its base was fits by shape


def parts(pipeline):
    return pipeline.unet, pipeline.text_encoder


def test_the_digest_of_weights_tells_any_change_and_nothing_else():
    pipeline = make_pipeline(seed=5)
    digest = weights_digest(*parts(pipeline))
    pipeline.unet.to(memory_format=torch.channels_last)
    assert weights_digest(*parts(pipeline)) == digest == weights_digest(*parts(make_pipeline(seed=5)))
    with torch.no_grad():
        next(pipeline.unet.parameters()).add_(1e-3)
    assert weights_digest(*parts(pipeline)) != digest


@pytest.mark.parametrize("text", ["[]", "{", '{"peft_type": "LORA", "r": "two", "target_modules": ["to_q"]}'])
def test_a_lora_with_a_broken_configuration_is_refused(saved, tmp_path, text):
    save_lora(tmp_path, saved, seed=0)
    (tmp_path / "unet" / "adapter_config.json").write_text(text)
    with pytest.raises(InputError, match="does not fit the unet of its base") as caught:
        load_model(tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("leave", ["folder", "nothing"])
def test_a_lora_without_safetensors_is_refused(saved, tmp_path, leave):
    if leave == "folder":
        (tmp_path / "unet").mkdir()
        (tmp_path / "unet" / "adapter_model.bin").write_bytes(b"\x80\x04K\x01.")
    (tmp_path / "edgesplit.json").write_text(json.dumps({"base": str(saved)}))
    with pytest.raises(InputError, match=r"safetensors|found no LoRA"):
        load_model(tmp_path)
