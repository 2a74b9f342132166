"""LoRAs as other programs write them: what is loaded equals diffusers' own loading of the same file."""

import json

import pytest
import torch
from loras import TARGETS, lora_state, network_of, of_diffusers, of_kohya
from peft import LoraConfig
from safetensors.torch import save_file
from tiny_families import tiny_pipeline

from edgesplit.common.errors import InputError
from edgesplit.diffusion.inference.hybrid import Request, hybrid
from edgesplit.diffusion.inference.models import load_model, paired
from edgesplit.diffusion.inference.sampling import Sampling

FAMILIES = ("sd", "sdxl", "sd3", "flux-dev")
WRITERS = {"diffusers": of_diffusers, "kohya": of_kohya}
CASES = [("diffusers", name) for name in FAMILIES] + [("kohya", "sd"), ("kohya", "sdxl")]


@pytest.fixture
def base(tmp_path):
    def make(name):
        folder = tmp_path / f"base-{name}"
        tiny_pipeline(name).save_pretrained(folder)
        return folder

    return make


def noted(folder, base, **more):
    folder.mkdir()
    (folder / "edgesplit.json").write_text(json.dumps({"base": str(base), "subject": "sks dog"} | more))
    return folder


@pytest.mark.parametrize(("kind", "name"), CASES)
@pytest.mark.parametrize("scale", [1.0, 0.5])
def test_a_lora_changes_its_base_as_diffusers_loading_does(base, tmp_path, kind, name, scale):
    folder = noted(tmp_path / "mine", base(name), scale=str(scale))
    WRITERS[kind](folder, name)
    model = load_model(folder)
    assert model.subject == "sks dog"
    pipeline = tiny_pipeline(name)
    (file,) = folder.glob("*.safetensors")
    pipeline.load_lora_weights(str(folder), weight_name=file.name)
    pipeline.fuse_lora(lora_scale=scale)
    pipeline.unload_lora_weights()
    before = network_of(tiny_pipeline(name)).state_dict()
    changed = 0
    for key, expected in network_of(pipeline).state_dict().items():
        found = model.network.state_dict()[key]
        torch.testing.assert_close(found, expected, atol=1e-6, rtol=0)
        changed += not torch.equal(found, before[key])
    assert changed


def test_an_adapter_of_peft_is_merged_as_peft_merges_it(base, tmp_path):
    folder = noted(tmp_path / "mine", base("sdxl"))
    unet = tiny_pipeline("sdxl").unet
    from peft import get_peft_model

    torch.manual_seed(7)
    adapted = get_peft_model(unet, LoraConfig(r=2, lora_alpha=6, target_modules=TARGETS, init_lora_weights=False))
    adapted.save_pretrained(folder, safe_serialization=True)
    expected = adapted.merge_and_unload().state_dict()
    found = load_model(folder).network.state_dict()
    for key in expected:
        torch.testing.assert_close(found[key], expected[key], atol=1e-6, rtol=0)


def test_two_loras_add_up(base, tmp_path):
    folder = noted(tmp_path / "mine", base("sd"))
    of_diffusers(folder, "sd")
    of_kohya(folder, "sd")
    own, once = load_model(folder).network.state_dict(), tiny_pipeline("sd").unet.state_dict()
    (folder / "style_v1.safetensors").unlink()
    one = load_model(folder).network.state_dict()
    of_kohya(folder, "sd")
    (folder / "pytorch_lora_weights.safetensors").unlink()
    other = load_model(folder).network.state_dict()
    for key, before in once.items():
        torch.testing.assert_close(own[key] - before, one[key] + other[key] - 2 * before, atol=1e-5, rtol=0)


@pytest.mark.parametrize(("lora", "of"), [("sdxl", "sd"), ("sd", "sdxl"), ("flux-dev", "sd3"), ("sd3", "sd")])
def test_a_lora_of_another_family_is_refused_by_name(base, tmp_path, lora, of):
    folder = noted(tmp_path / "mine", base(of))
    of_diffusers(folder, lora)
    with pytest.raises(InputError, match=r"this LoRA does not fit .* is (Stable|FLUX)|a LoRA of Stable Diff") as caught:
        load_model(folder)
    assert "\n" not in str(caught.value)


def test_a_family_without_loras_says_so(base, tmp_path):
    folder = noted(tmp_path / "mine", base("pixart"))
    of_diffusers(folder, "sd")
    with pytest.raises(InputError, match="diffusers has no LoRAs for PixArt-Sigma"):
        load_model(folder)


@pytest.mark.parametrize("damage", ["zeros", "nan", "cut"])
def test_a_lora_that_is_damaged_or_empty_is_refused(base, tmp_path, damage):
    folder = noted(tmp_path / "mine", base("sd"))
    of_diffusers(folder, "sd")
    path = folder / "pytorch_lora_weights.safetensors"
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:-50])
    else:
        number = 0.0 if damage == "zeros" else torch.nan
        save_file({f"unet.{k}": torch.full_like(v, number) for k, v in lora_state("sd").items()}, path)
    with pytest.raises(InputError, match=r"found no LoRA in it|not finite|not a whole safetensors"):
        load_model(folder)


@pytest.mark.parametrize("scale", ["much", "nan", "11"])
def test_a_scale_is_a_number(base, tmp_path, scale):
    folder = noted(tmp_path / "mine", base("sd"), scale=scale)
    of_diffusers(folder, "sd")
    with pytest.raises(InputError, match=r"scale: found .* accepted: a number up to 10"):
        load_model(folder)


def test_a_lora_goes_on_from_its_base(base, tmp_path):
    folder = noted(tmp_path / "mine", base("sd3"))
    of_diffusers(folder, "sd3")
    edge, own = load_model(base("sd3"), subject="dog"), load_model(folder, subject="dog")
    sampling = Sampling(total_steps=4, guidance_scale=2.0, scheduler="flow-euler")
    edge, (own,) = paired(edge, [own], sampling)
    request = Request(prompt_template="a photo of {subject} in snow", local_steps=2)
    alone, mixed = hybrid(edge, [edge, own], [request, request], sampling)
    assert (alone - mixed).abs().max() > 1e-4


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rank_pattern": {"(a+)+$": 2}}, "rank_pattern: found '(a+)+$', accepted: names of layers"),
        ({"r": 10**9}, "r: found 1000000000, accepted: 1 to"),
        ({"target_modules": "(x+x+)+y"}, None),
    ],
)
def test_an_adapter_of_peft_is_checked_as_dreambooth_s_are(base, tmp_path, options, message):
    """Regular expressions that may take forever, and sizes that would, are not used."""
    from peft import get_peft_model

    folder = noted(tmp_path / "mine", base("sd"), scale=0.5)
    settings = LoraConfig(r=2, lora_alpha=2, target_modules=TARGETS, init_lora_weights=False)
    adapted = get_peft_model(tiny_pipeline("sd").unet, settings)
    adapted.save_pretrained(folder, safe_serialization=True)
    path = folder / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | options))
    if message:
        with pytest.raises(InputError) as caught:
            load_model(folder)
        assert message in str(caught.value)
        return
    before, whole = tiny_pipeline("sd").unet.state_dict(), adapted.merge_and_unload().state_dict()
    for key, value in load_model(folder).network.state_dict().items():
        torch.testing.assert_close(value, (before[key] + whole[key]) / 2, atol=1e-6, rtol=0)
