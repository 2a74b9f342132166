"""Checkpoints in one file: known by their header, described by what ships or by a base, loaded as diffusers does."""

import json
import re
import struct
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from commands import run
from loras import of_diffusers
from models import COLOURS
from one_file import LAYOUTS, checkpoint_state, open_clip, save_checkpoint
from one_file import flux as flux_names
from safetensors.torch import load_file, save_file
from tiny_families import LATENT_SIDE, tiny_pipeline

from edgesplit.common.errors import InputError
from edgesplit.data import shipped
from edgesplit.diffusion.inference import checkpoints, parts
from edgesplit.diffusion.inference.checkpoints import KIND, Description, read_checkpoint
from edgesplit.diffusion.inference.clip_tokenizer import clip_tokenizer
from edgesplit.diffusion.inference.families.flux_file import flux_transformer
from edgesplit.diffusion.inference.families.known import family_in
from edgesplit.diffusion.inference.headers import Header, read_header
from edgesplit.diffusion.inference.hybrid import Request, hybrid
from edgesplit.diffusion.inference.models import load_model
from edgesplit.diffusion.inference.references import check_models, family_at
from edgesplit.diffusion.inference.sampling import Sampling
from edgesplit.diffusion.inference.sources import Weights

CASES = [("sd", "sd"), ("sd", "sd2"), ("sdxl", "sdxl"), ("sd3", "sd3"), ("flux-dev", "flux"), ("flux-schnell", "flux")]
"""Tiny model, and layout of its file."""
N = 4


def made(name, seed=0):
    """A tiny pipeline; that of the first CLIP without projection, as checkpoints have it."""
    pipeline = tiny_pipeline(name, seed)
    if name.startswith("sd3"):
        pipeline.text_encoder.text_projection.weight.data = torch.eye(16)
    return pipeline


@pytest.fixture
def folder(tmp_path):
    """Call it with a name: a folder with a tiny model."""

    def make(name, seed=0):
        path = tmp_path / f"{name}-{seed}"
        made(name, seed).save_pretrained(path)
        return path

    return make


def beside(path, base, **more):
    """A folder with a note that names a base."""
    path.mkdir(exist_ok=True)
    (path / "edgesplit.json").write_text(json.dumps({"base": str(base)} | more))
    return path


def refusal_of(reference):
    with pytest.raises(InputError) as caught:
        load_model(reference)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def picture_of(model):
    model = replace(model, latent_size=(LATENT_SIDE, LATENT_SIDE))
    sampling = Sampling(total_steps=N, guidance_scale=2.0, scheduler=model.SCHEDULERS[0])
    request = Request(prompt_template="a photo of {subject} in snow", local_steps=2, seed=3)
    return hybrid(model, [model], [request], sampling)[0]


# -- what is loaded -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "layout"), CASES)
def test_a_file_on_a_base_makes_what_the_folder_of_its_model_makes(folder, tmp_path, name, layout):
    """Every part is the file's: none of the base's own weights is left."""
    mine = beside(tmp_path / "mine", folder(name), subject="dog")
    save_checkpoint(mine / "model.safetensors", made(name, seed=3), layout)
    own, expected = load_model(mine), load_model(folder(name, seed=3), subject="dog")
    for part, network in expected.networks.items():
        found = getattr(own, part).state_dict()
        for key, value in network.state_dict().items():
            assert torch.equal(found[key], value), (part, key)
    torch.testing.assert_close(picture_of(own), picture_of(expected), atol=1e-4, rtol=0)


def test_what_a_file_lacks_is_its_base_s(folder, tmp_path):
    mine = beside(tmp_path / "mine", folder("flux-dev"))
    save_checkpoint(mine / "flux1.safetensors", made("flux-dev", seed=3), "flux-alone")
    own, expected = load_model(mine), {seed: made("flux-dev", seed) for seed in (0, 3)}
    for part, network in own.networks.items():
        like = getattr(expected[3 if part == "transformer" else 0], part).state_dict()
        assert all(torch.equal(network.state_dict()[key], value) for key, value in like.items()), part


@pytest.fixture
def alone(tmp_path, monkeypatch):
    """A checkpoint that needs no base, and its pipeline: what ships describes it, and CLIP's own words fit it."""
    pipeline = made("sdxl", seed=3)
    tokenizer = clip_tokenizer("!")
    for name in ("text_encoder", "text_encoder_2"):
        config = getattr(pipeline, name).config
        config.vocab_size, config.max_position_embeddings = len(tokenizer), tokenizer.model_max_length
        setattr(pipeline, name, type(getattr(pipeline, name))(config).eval())
    pipeline.tokenizer = pipeline.tokenizer_2 = tokenizer
    networks = {name: part.config for name, part in pipeline.components.items() if isinstance(part, torch.nn.Module)}
    configs = {n: c.to_dict() if hasattr(c, "to_dict") else dict(c) for n, c in networks.items()}
    described = configs | {name: {"pad_token": "!"} for name in ("tokenizer", "tokenizer_2")}
    index = {"_class_name": "StableDiffusionXLPipeline", "scheduler": dict(pipeline.scheduler.config)}
    monkeypatch.setattr(Description, "index", index)
    monkeypatch.setattr(Description, "part", lambda self, part: described.get(part))
    monkeypatch.setattr("edgesplit.diffusion.inference.families.sdxl.TEXT_WIDTH", 48)
    return save_checkpoint(tmp_path / "juggernaut.safetensors", pipeline, "sdxl"), pipeline


def test_a_file_alone_makes_what_the_folder_of_its_model_makes(alone, tmp_path):
    path, pipeline = alone
    pipeline.save_pretrained(tmp_path / "folder")
    check_models([str(path), str(tmp_path / "folder")])
    own, expected = load_model(path), load_model(tmp_path / "folder")
    torch.testing.assert_close(picture_of(own), picture_of(expected), atol=1e-4, rtol=0)


def test_a_lora_goes_on_a_file(alone, tmp_path):
    """As a base in a note, and beside it in one folder."""
    path, _ = alone
    apart = beside(tmp_path / "apart", path)
    of_diffusers(apart, "sdxl")
    together = beside(tmp_path / "together", path.name)
    of_diffusers(together, "sdxl")
    path.rename(together / path.name)
    (apart / "edgesplit.json").write_text(json.dumps({"base": str(together / path.name)}))
    before, one, other = (load_model(where).unet.state_dict() for where in (together / path.name, apart, together))
    assert any(not torch.equal(before[key], value) for key, value in one.items())
    assert all(torch.equal(other[key], value) for key, value in one.items())


@pytest.mark.parametrize("dtype", [torch.float16, torch.float8_e4m3fn])
def test_files_of_fewer_bits_are_read_as_the_numbers_that_they_hold(folder, tmp_path, dtype):
    mine = beside(tmp_path / "mine", folder("sd"))
    state = {name: tensor.to(dtype) for name, tensor in checkpoint_state(made("sd", seed=3), "sd").items()}
    save_file(state, mine / "model.safetensors")
    found, name = load_model(mine).unet.state_dict(), "conv_in.weight"
    expected = made("sd", seed=3).unet.state_dict()[name].to(dtype).float()
    assert torch.equal(found[name], expected)
    save_file(state | {"model.diffusion_model.out.2.scale_weight": torch.ones(1)}, mine / "model.safetensors")
    assert "numbers in its weights" in refusal_of(mine)


def test_the_conversion_of_wide_transformers_is_that_of_diffusers(monkeypatch):
    """Tensors of one column have all rows of the published width."""
    from diffusers.loaders.single_file_utils import convert_flux_transformer_checkpoint_to_diffusers as theirs

    network, rows = tiny_pipeline("flux-dev").transformer, 3072 // 32
    state = {}
    for number, (name, tensor) in enumerate(flux_names(network).items()):
        length = 7 * 3072 if "linear1" in name else len(tensor) * rows
        state[name] = (number * 10.0**5 + torch.arange(length, dtype=torch.float64)).view(-1, 1)
    wide = dict(network.config) | {"num_attention_heads": 24, "attention_head_dim": 128}
    own = flux_transformer(state, type("Wide", (), {"config": type("Config", (), wide)}))
    expected = theirs(dict(state))
    assert own.keys() == expected.keys()
    for key, value in expected.items():
        assert torch.equal(own[key], value), key


# -- what a header tells ----------------------------------------------------------------------------------------


def header_of(path):
    return json.dumps({name: {"shape": list(shape)} for name, shape in read_header(path).shapes.items()})


def published(name):
    """The header of a checkpoint of the published size: its shapes, without the numbers."""
    description, weights = Description(name), Weights(Path(name), {})
    networks = {
        part: parts._without_weights(weights, what, description.part(part))
        for part, what in description.family.PARTS.items()
        if not what.is_tokenizer
    }
    layout = {"StableDiffusionPipeline": "sd2" if name.startswith("sd2") else "sd", "FluxPipeline": "flux",
              "StableDiffusionXLPipeline": "sdxl", "StableDiffusion3Pipeline": "sd3"}  # fmt: skip
    state = {}
    for part, (prefix, names) in LAYOUTS[layout[description.index["_class_name"]]].items():
        state |= {prefix + key: tuple(tensor.shape) for key, tensor in names(networks[part]).items()}
    return Header(state), networks


NUMBERS = {
    "vae-sd1": 83_653_863,
    "vae-sdxl": 83_653_863,
    "vae-sd3": 83_819_683,
    "vae-flux.1": 83_819_683,
    "clip-l": 123_060_480,
    "clip-h": 340_387_840,
    "clip-g-projected": 694_659_840,
    "t5-xxl": 4_762_310_656,
}
"""Parameters of the parts beside the networks.

CLIP-L: 123.06 million, the SDXL paper's Table 1 gives 817 million for both of its text encoders, CLIP-L and OpenCLIP's
bigG with its projection. T5 XXL: the encoder of 11,135,332,352 parameters of google/t5-v1_1-xxl. Autoencoder: 83.7
million of Stable Diffusion's, as the model cards of stabilityai/sd-vae-ft-mse and black-forest-labs' ae.safetensors,
335,304,388 bytes of fp32, have them.
"""


@pytest.mark.parametrize("name", [*shipped(KIND)])
def test_a_checkpoint_of_the_published_size_is_known_and_described(name):
    header, networks = published(name)
    if name == "sd2-base":
        header = Header(header.shapes, {"modelspec.prediction_type": "epsilon"})
    family = family_in(header)
    assert family is Description(name).family
    assert family.shipped_as(header) == name
    lacks = [part for part in family.PARTS if part not in Description(name).index["parts"]]
    assert set(lacks) <= {"tokenizer_2", "tokenizer_3"}  # a T5's, which nothing here has
    checkpoint = checkpoints.Checkpoint(None, family, header)
    assert checkpoint.missing == lacks
    for part, config in Description(name).index["parts"].items():
        short = str(config).removeprefix("parts/")
        if part in networks and short in NUMBERS:
            assert sum(weight.numel() for weight in networks[part].parameters()) == NUMBERS[short]


def test_the_file_of_the_published_autoencoder_is_as_large_as_ours():
    """335,304,388 bytes of black-forest-labs' ae.safetensors: four for each number, and a header."""
    header, _ = published("flux.1-dev")
    numbers = sum(torch.Size(shape).numel() for key, shape in header.shapes.items() if key.startswith("vae."))
    assert 0 < 335_304_388 - 4 * numbers < 50_000


@pytest.mark.parametrize(
    ("sign", "says"),
    [
        ({"v_pred": torch.zeros(0)}, {"prediction_type": "v_prediction"}),
        ({"v_pred": torch.zeros(0), "ztsnr": torch.zeros(0)},
         {"prediction_type": "v_prediction", "rescale_betas_zero_snr": True}),
        ({}, {}),
    ],
)  # fmt: skip
def test_what_a_file_says_of_its_scheduler_holds(folder, tmp_path, sign, says):
    mine, base = beside(tmp_path / "mine", folder("sdxl")), load_model(folder("sdxl")).scheduler_config
    save_checkpoint(mine / "model.safetensors", made("sdxl"), "sdxl", **sign)
    assert load_model(mine).scheduler_config == base | says


def test_notes_of_modelspec_hold(folder, tmp_path):
    mine = beside(tmp_path / "mine", folder("sd"))
    save_checkpoint(mine / "m.safetensors", made("sd"), "sd2", notes={"modelspec.prediction_type": "v"})
    assert load_model(mine).scheduler_config["prediction_type"] == "v_prediction"


def test_files_are_known_and_refused_without_torch(folder, tmp_path):
    path = save_checkpoint(tmp_path / "m.safetensors", made("sdxl"), "sdxl")
    code = f"""
import sys
from edgesplit.common.errors import InputError
from edgesplit.diffusion.inference.references import check_models, family_at
print(family_at({str(path)!r}).KIND)
try:
    check_models([{str(path)!r}])
except InputError as error:
    print(error)
assert "torch" not in sys.modules
"""
    result = run(sys.executable, "-c", code, timeout=300)
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines()[0] == "Stable Diffusion XL"
    assert "a checkpoint of Stable Diffusion XL of other sizes than the published ones; put it" in result.stdout


# -- what is refused ----------------------------------------------------------------------------------------------


def without(state, pattern):
    return {name: tensor for name, tensor in state.items() if not re.search(pattern, name)}


@pytest.mark.parametrize(
    ("name", "layout", "gone", "says"),
    [
        ("sd", "sd", "input_blocks.1.0.in_layers.2.weight", "no weights for 1 .*down_blocks.0.resnets.0.conv1.weight"),
        ("sdxl", "sdxl", "resblocks.1.mlp", "no weights for 4 of .*encoder.layers.1.mlp.fc1"),
        ("sd3", "sd3", "joint_blocks.1.x_block.mlp.fc1.bias", "no weights 'joint_blocks.1.x_block.mlp.fc1.bias'"),
        ("flux-dev", "flux", "single_blocks.0.linear2.bias", "1 of .*single_transformer_blocks.0.proj_out.bias"),
        ("sd", "sd", "decoder.up.0.block", r"no weights for \d+ of"),
    ],
)
def test_missing_weights_are_refused_with_their_names(folder, tmp_path, name, layout, gone, says):
    mine = beside(tmp_path / "mine", folder(name))
    save_file(without(checkpoint_state(made(name), layout), gone), mine / "m.safetensors")
    assert re.search(says, refusal_of(mine))


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({"model.diffusion_model.motion.0.weight": torch.ones(3)}, "found 3 numbers in its weights that its config"),
        ({"first_stage_model.decoder.extra": torch.ones(2)}, "found 2 numbers in its weights that its config"),
        ({"model_ema.decay": torch.ones(1), "alphas_cumprod": torch.ones(9)}, None),
    ],
)
def test_weights_without_a_place_are_refused(folder, tmp_path, more, says):
    mine = beside(tmp_path / "mine", folder("sd"))
    save_checkpoint(mine / "m.safetensors", made("sd"), "sd", **more)
    if says is None:
        load_model(mine)
    else:
        assert says in refusal_of(mine)


def widened(name, columns):
    def edit(state):
        return state | {name: torch.zeros(len(state[name]), columns, *state[name].shape[2:])}

    return edit


def of_text_width(width):
    def edit(state):
        wide = {name: torch.zeros(16, width) for name in state if name.endswith("attn2.to_k.weight")}
        return state | wide

    return edit


UNET_INPUT = "model.diffusion_model.input_blocks.0.0.weight"


@pytest.mark.parametrize(
    ("name", "layout", "edit", "says"),
    [
        ("sd", "sd", widened(UNET_INPUT, 9), "takes 9 channels and makes 4, as for inpainting"),
        ("flux-dev", "flux-alone", widened("img_in.weight", 24), "takes 24 channels and makes 16, as for inpainting"),
        ("sdxl", "sdxl", lambda state: state | {"edm_mean": torch.zeros(4)}, "a model of EDM's noise levels"),
        ("sdxl", "sdxl", of_text_width(1280), "a refiner, which finishes pictures"),
        ("sd", "sd", lambda state: {"y_embedder.y_proj.fc1.weight": torch.zeros(3)}, "of PixArt-Sigma: a transformer"),
        ("sd", "sd", lambda state: without(state, "input_blocks"), "a checkpoint of another family, accepted: Stable"),
        ("sd", "sd", dict, "of Stable Diffusion 1.x or 2.x of other sizes than the published ones; put it into a"),
        ("sd", "sd", lambda state: without(of_text_width(768)(state), "stage_model"), "without vae, text_encoder; put"),
    ],
)
def test_a_file_for_something_else_is_refused_by_name(tmp_path, name, layout, edit, says):
    path = tmp_path / "m.safetensors"
    save_file(edit(checkpoint_state(made(name), layout)), path)
    assert says in refusal_of(path)


def test_a_file_and_a_base_of_two_families_are_refused(folder, tmp_path):
    mine = beside(tmp_path / "mine", folder("sd3"))
    save_checkpoint(mine / "m.safetensors", made("flux-dev"), "flux")
    says = f"found a checkpoint of FLUX.1; its base {tmp_path / 'sd3-0'} is Stable Diffusion 3 or 3.5; name one of its"
    assert says in refusal_of(mine)
    with pytest.raises(InputError, match=r"found a checkpoint of FLUX.1; its base"):
        check_models([str(mine)])


def test_two_files_in_a_folder_are_refused(folder, tmp_path):
    mine = beside(tmp_path / "mine", folder("sd"))
    for name in ("a", "b"):
        save_checkpoint(mine / f"{name}.safetensors", made("sd"), "sd")
    assert "found several checkpoints, a.safetensors, b.safetensors; accepted: one" in refusal_of(mine)


def test_a_base_of_another_size_is_refused_with_the_weights(folder, tmp_path):
    mine = beside(tmp_path / "mine", folder("sd"))
    config = tmp_path / "sd-0" / "unet" / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"cross_attention_dim": 24}))
    save_checkpoint(mine / "m.safetensors", made("sd"), "sd")
    assert re.search(
        r"attn2.to_k.weight: found shape \(\d+, 16\), which does not fit its config.json", refusal_of(mine)
    )


def test_a_cut_file_and_one_with_numbers_that_are_none_are_refused(folder, tmp_path):
    mine = beside(tmp_path / "mine", folder("sd"))
    path = save_checkpoint(mine / "m.safetensors", made("sd"), "sd")
    state, whole = load_file(path), path.read_bytes()
    path.write_bytes(whole[:-100])
    assert "not a whole safetensors file" in refusal_of(mine)
    name = "model.diffusion_model.out.2.bias"
    save_file(state | {name: torch.full_like(state[name], torch.nan)}, path)
    assert "conv_out.bias: found weights that are not finite" in refusal_of(mine)


@pytest.mark.parametrize("header", [b"{}", b"[]", b'{"a": 3}', b'{"a": {"shape": ["x"]}}', b"\xff", b""])
def test_a_header_that_is_none_says_nothing(tmp_path, header):
    path = tmp_path / "m.safetensors"
    path.write_bytes(struct.pack("<Q", len(header)) + header)
    assert read_header(path).shapes == {}
    assert read_checkpoint(path) is None
    assert "not whole safetensors" in refusal_of(path)


# -- CLIP's words --------------------------------------------------------------------------------------------------


PROMPTS = (
    "a photo of a cat",
    "Ünïcode ½ naïve don't THE 123,456",
    "sks dog (masterpiece:1.2)",
    "日本語 🐶🐶",
    "",
    " a \n b",
)


@pytest.mark.parametrize("prompt", [*PROMPTS, *(f"a {colour} dog!" for colour in COLOURS)])
def test_clip_s_tokenizer_reads_as_open_clip_does(prompt):
    import open_clip as library

    expected = library.tokenize(prompt)[0]
    length = int(expected.argmax()) + 1
    assert clip_tokenizer("<|endoftext|>")(prompt).input_ids == expected[:length].tolist()
    if "!" not in prompt:  # number 0, by which both fill up; in a prompt it is then one of its own, as in transformers
        padded = clip_tokenizer("!")(prompt, padding="max_length", max_length=77).input_ids
        assert padded == expected.tolist()


def test_the_names_of_open_clip_are_made_back(tmp_path):
    """The writer of these tests, against the library's own names."""
    import open_clip as library

    tower = library.model.CLIPTextCfg(context_length=77, vocab_size=49408, width=32, heads=2, layers=2)
    theirs = library.model._build_text_tower(16, tower)
    from transformers import CLIPTextConfig, CLIPTextModelWithProjection

    config = CLIPTextConfig(vocab_size=49408, hidden_size=32, intermediate_size=128, num_hidden_layers=2,
                            num_attention_heads=2, projection_dim=16)  # fmt: skip
    ours = open_clip(CLIPTextModelWithProjection(config))
    assert {n: t.shape for n, t in ours.items()} == {n: t.shape for n, t in theirs.state_dict().items()}


def test_the_family_of_a_file_is_what_its_folder_s_is(folder, tmp_path):
    for name, layout in CASES:
        mine = beside(tmp_path / layout, folder(name))
        save_checkpoint(mine / "m.safetensors", made(name), layout)
        assert family_at(str(mine)) is family_at(str(folder(name)))
