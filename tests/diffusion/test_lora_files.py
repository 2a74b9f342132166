"""LoRAs as other programs write them: what is loaded equals diffusers' own loading of the same file."""

import json

import pytest
import torch
from loras import TARGETS, lora_state, network_of, of_diffusers, of_kohya, of_kohya_for_wide_blocks
from peft import LoraConfig
from safetensors.torch import save_file
from tiny_families import tiny_pipeline

from edgesplit.common.errors import InputError
from edgesplit.diffusion.inference.families.known import FAMILIES as ALL
from edgesplit.diffusion.inference.families.known import family_of_lora
from edgesplit.diffusion.inference.headers import Header, read_header
from edgesplit.diffusion.inference.hybrid import Request, hybrid
from edgesplit.diffusion.inference.models import load_model, paired
from edgesplit.diffusion.inference.references import check_models
from edgesplit.diffusion.inference.sampling import Sampling

OF = dict(zip(("sd", "sdxl", "sd3", "flux-dev", "pixart"), ALL, strict=True))
FAMILIES = ("sd", "sdxl", "sd3", "flux-dev")
WRITERS = {"diffusers": of_diffusers, "kohya": of_kohya, "kohya, wide": of_kohya_for_wide_blocks}
CASES = [
    *(("diffusers", name) for name in FAMILIES),
    ("kohya", "sd"),
    ("kohya", "sdxl"),
    ("kohya, wide", "flux-dev"),
    ("kohya, wide", "flux-schnell"),
]


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


def published(*layers, rank=4):
    """A LoRA of the published widths: name of a layer's first matrix and its width."""
    return {name: torch.zeros(rank, width) for name, width in layers}


UNET = "down_blocks.1.attentions.0.transformer_blocks.0.attn2.to_k"
KOHYA_UNET = UNET.replace(".", "_")
LORAS = {
    "sd": [
        published((f"unet.{UNET}.lora_A.weight", 768)),
        published((f"unet.{UNET.replace('to_k', 'processor.to_k_lora')}.down.weight", 1024)),
        published((f"lora_unet_{KOHYA_UNET}.lora_down.weight", 768), ("lora_te_text_model_x.lora_down.weight", 768)),
    ],
    "sdxl": [
        published((f"unet.{UNET}.lora_A.weight", 2048)),
        published(("lora_unet_input_blocks_4_1_transformer_blocks_1_attn1_to_q.lora_down.weight", 640)),
        published((f"lora_unet_{KOHYA_UNET}.lora_down.weight", 2048), ("lora_te2_text_model_x.lora_down.weight", 1280)),
    ],
    "sd3": [
        published(("transformer.transformer_blocks.0.attn.to_q.lora_A.weight", 1536)),
        published(("transformer.transformer_blocks.0.attn.to_q.lora_A.weight", 2432)),
        published(("lora_unet_joint_blocks_0_x_block_attn_qkv.lora_down.weight", 1536)),
    ],
    "flux-dev": [
        published(("transformer.single_transformer_blocks.0.attn.to_q.lora_A.weight", 3072)),
        published(("lora_unet_double_blocks_0_img_attn_qkv.lora_down.weight", 3072)),
        published(("lora_unet_single_blocks_0_linear1.lora_down.weight", 3072)),
    ],
    "pixart": [published(("base_model.model.transformer_blocks.0.attn1.to_q.lora_A.weight", 1152))],
}
"""Tiny model of the family -> LoRAs of it."""


@pytest.mark.parametrize(("name", "state"), [(name, state) for name, states in LORAS.items() for state in states])
def test_the_family_of_a_published_lora_is_known_and_another_base_refused_without_torch(tmp_path, name, state):
    index = tmp_path / "other" / "model_index.json"
    index.parent.mkdir()
    other, kind = next(OF[key] for key in LORAS if key != name), OF[name].KIND
    parts = {part: [what.library, what.classes[0]] for part, what in other.PARTS.items()}
    index.write_text(json.dumps({"_class_name": other.PIPELINES[0]} | parts))
    folder = noted(tmp_path / "mine", index.parent)
    save_file(state, folder / "style.safetensors")
    assert family_of_lora(read_header(folder / "style.safetensors")) is OF[name]
    with pytest.raises(InputError) as caught:
        check_models([str(folder)])
    assert f"style.safetensors: a LoRA of {kind}; its base {index.parent} is {other.KIND}; name" in str(caught.value)


def test_what_tells_no_family_is_of_none():
    for state in ({"x.lora_A.weight": torch.zeros(2, 3)}, {f"unet.{UNET}.lora_A.weight": torch.zeros(2, 99)}):
        assert family_of_lora(Header({key: tuple(value.shape) for key, value in state.items()})) is None


def test_names_that_diffusers_does_not_read_are_said_to_be_so(base, tmp_path):
    folder = noted(tmp_path / "mine", base("sd3"))
    save_file(LORAS["sd3"][2], folder / "style.safetensors")
    says = r"names of kohya's trainers, which diffusers does not read for Stable Diffusion 3 or 3.5; convert it"
    for refuse in (load_model, lambda folder: check_models([str(folder)])):
        with pytest.raises(InputError, match=says):
            refuse(folder)


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
