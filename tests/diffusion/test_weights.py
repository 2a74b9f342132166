"""Weights: every parameter of every part comes from a safetensors file, or the model is refused in one line."""

import json
import pickle
import shutil
from pathlib import Path

import pytest
import torch
from models import make_pipeline
from safetensors.torch import load_file, save_file
from traps import trap_bytes

from edgesplit.common.errors import InputError
from edgesplit.diffusion.inference.lora import add_lora
from edgesplit.diffusion.inference.models import load_model, weights_digest

PARTS = ("unet", "vae", "text_encoder")
STEM = "diffusion_pytorch_model"
LFS = "version https://git-lfs.github.com/spec/v1\noid sha256:ab\nsize 492265168\n"


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("saved") / "model"
    make_pipeline(seed=5).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def digest(saved):
    return digest_of(load_model(saved))


@pytest.fixture
def copy(saved, tmp_path):
    return shutil.copytree(saved, tmp_path / "copy")


def test_the_trap_works(tmp_path):
    pickle.loads(trap_bytes(tmp_path / "sprung"))  # noqa: S301
    assert (tmp_path / "sprung").exists()


def digest_of(model):
    return weights_digest(model.unet, model.vae, model.text_encoder)


def weights_of(folder, part):
    (path,) = (folder / part).glob("*.safetensors")
    return path


def change(folder, part, edit):
    """Write a part's weights again, edited."""
    path = weights_of(folder, part)
    save_file({name: tensor.contiguous() for name, tensor in edit(load_file(path)).items()}, path, {"format": "pt"})


def configure(folder, part, **options):
    path = folder / part / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | options))


def refusal_of(folder):
    with pytest.raises(InputError) as caught:
        load_model(folder)
    assert "\n" not in str(caught.value)
    assert str(folder) in str(caught.value)
    return str(caught.value)


# -- names --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "before",
    [
        {"unet": "_orig_mod.", "vae": "module.", "text_encoder": "text_model."},
        {"unet": "module._orig_mod.", "vae": "vae.", "text_encoder": "text_encoder.text_model."},
        {"unet": "unet.", "text_encoder": "text_encoder."},
    ],
)
def test_what_other_programs_put_before_names_is_dropped(copy, digest, before):
    for part, prefix in before.items():
        change(copy, part, lambda state: {prefix + name: tensor for name, tensor in state.items()})
    assert digest_of(load_model(copy)) == digest


def test_names_of_compiled_blocks_and_of_old_attentions_are_known(copy, digest):
    old = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}

    def renamed(name):
        for new, before in old.items():
            name = name.replace(f".{new}.", f".{before}.")
        return name

    change(copy, "vae", lambda state: {renamed(name): tensor for name, tensor in state.items()})
    wrapped = "down_blocks.1._orig_mod."
    change(copy, "unet", lambda state: {name.replace("down_blocks.1.", wrapped): t for name, t in state.items()})
    assert digest_of(load_model(copy)) == digest


def test_the_text_tower_of_a_whole_clip_is_taken(copy, digest):
    more = {"vision_model.x": torch.zeros(3), "logit_scale": torch.zeros(())}
    change(copy, "text_encoder", lambda state: more | {f"text_model.{name}": t for name, t in state.items()})
    assert digest_of(load_model(copy)) == digest


def without(*words):
    return lambda state: {name: t for name, t in state.items() if not any(word in name for word in words)}


def renamed(state):
    return {name.replace("conv_in", "conv_1"): tensor for name, tensor in state.items()}


def doubled(state):
    return state | {"module.conv_in.weight": state["conv_in.weight"].clone()}


def with_nan(state):
    return {name: t * torch.nan if name.endswith("conv_out.weight") else t for name, t in state.items()}


@pytest.mark.parametrize(
    ("part", "edit", "message"),
    [
        ("text_encoder", without("layers.0."), "found no weights for 16 of 20 parameters (encoder.layers.0.self_attn"),
        ("text_encoder", lambda state: dict(list(state.items())[:2]), "found no weights for 18 of 20 parameters"),
        ("unet", without("conv_out.bias"), "found no weights for 1 of 208 parameters (conv_out.bias); download or"),
        ("vae", without("post_quant"), "found no weights for 2 of 152 parameters (post_quant_conv.weight, post_quant"),
        ("unet", renamed, "2 of 208 parameters (conv_in.weight, conv_in.bias), and unknown weights such as 'conv_1."),
        (
            "unet",
            lambda state: state | {"extra.weight": torch.zeros(3)},
            "found 1 unknown weights (extra.weight), which",
        ),
        ("unet", doubled, "found weights 'conv_in.weight' twice, once as 'module.conv_in.weight'"),
        ("unet", lambda state: {}, "found no weights in it"),
        ("unet", with_nan, "conv_out.weight: found weights that are not finite (NaN or infinity)"),
        ("vae", lambda state: state | {"decoder.conv_in.bias": torch.full((16,), torch.inf)}, "not finite"),
        ("unet", lambda state: state | {"conv_out.bias": torch.zeros(3)}, "conv_out.bias: found shape (3,), which"),
        (
            "unet",
            lambda state: {n: t.to(torch.int8) for n, t in state.items()},
            "found int8 numbers, accepted: float16",
        ),
    ],
)
def test_weights_that_do_not_fill_every_parameter_are_refused(copy, part, edit, message):
    change(copy, part, edit)
    assert message in refusal_of(copy)


# -- files --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("part", "content", "message"),
    [
        ("unet", LFS.encode(), "cannot load: found a pointer of Git LFS, not the weights; run `git lfs pull`"),
        ("text_encoder", LFS.encode(), "cannot load: found a pointer of Git LFS, not the weights; run `git lfs pull`"),
        ("vae", b"", "cannot load: not a whole safetensors file"),
        ("text_encoder", b"<html>not found</html>" * 100, "cannot load: not a whole safetensors file"),
    ],
)
def test_what_is_not_a_safetensors_file_is_refused_by_what_it_is(copy, part, content, message):
    path = weights_of(copy, part)
    path.write_bytes(content)
    assert f"{path}: {message}" in refusal_of(copy)


def test_a_truncated_file_is_refused(copy):
    path = weights_of(copy, "text_encoder")
    path.write_bytes(path.read_bytes()[:-10])
    assert f"{path}: cannot load: not a whole safetensors file" in refusal_of(copy)


@pytest.mark.parametrize("variant", ["fp16", "non_ema"])
def test_a_variant_is_read_where_there_is_no_plain_file(copy, digest, variant):
    for part in PARTS:
        path = weights_of(copy, part)
        path.rename(path.with_name(f"{path.stem}.{variant}.safetensors"))
    assert digest_of(load_model(copy)) == digest


def test_of_variants_fp16_is_read_and_others_are_not_guessed(copy, digest):
    path = weights_of(copy, "unet")
    shutil.copy(path, path.with_name(f"{STEM}.fp16.safetensors"))
    path.rename(path.with_name(f"{STEM}.ema.safetensors"))
    assert digest_of(load_model(copy)) == digest
    path.with_name(f"{STEM}.fp16.safetensors").rename(path.with_name(f"{STEM}.non_ema.safetensors"))
    assert "found variants ema, non_ema, accepted: one of them; rename it to" in refusal_of(copy)


def shard(folder, names, index=f"{STEM}.safetensors.index.json"):
    """Split the UNet's weights among files, which an index names."""
    path = weights_of(folder, "unet")
    state, place = load_file(path), {}
    path.unlink()
    for number, name in enumerate(names):
        part = dict(list(state.items())[number :: len(names)])
        place |= dict.fromkeys(part, name)
        if name.endswith(".safetensors") and "/" not in name:
            save_file(part, path.with_name(name), {"format": "pt"})
    path.with_name(index).write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": place}))


@pytest.mark.parametrize(
    ("variant", "index"),
    [("", f"{STEM}.safetensors.index.json"), (".fp16", f"{STEM}.safetensors.index.fp16.json")],
)
def test_shards_are_read_together(copy, digest, variant, index):
    shard(copy, [f"{STEM}{variant}-0000{number}-of-00002.safetensors" for number in (1, 2)], index)
    assert digest_of(load_model(copy)) == digest


@pytest.mark.parametrize("part", PARTS)
def test_an_index_of_any_part_names_no_pickle(copy, trap, part):
    path = weights_of(copy, part)
    (path.parent / "w.bin").write_bytes(trap)
    place = dict.fromkeys(load_file(path), "w.bin")
    path.with_name(f"{path.name}.index.json").write_text(json.dumps({"weight_map": place}))
    path.unlink()
    assert f"{path.name}.index.json: found the file 'w.bin', accepted: .safetensors files" in refusal_of(copy)


@pytest.mark.parametrize("name", ["w.bin", "w.safetensors.bin", "../../model/unet/w.safetensors", "/w.safetensors"])
def test_an_index_names_safetensors_files_beside_it_and_nothing_else(copy, trap, name):
    shard(copy, ["a.safetensors", name])
    (copy / "unet" / Path(name).name).write_bytes(trap)
    assert f"{STEM}.safetensors.index.json: found the file '{name}', accepted: .safetensors files" in refusal_of(copy)


def test_a_shard_that_is_not_there_is_named(copy):
    shard(copy, ["a.safetensors", "b.safetensors"])
    (copy / "unet" / "b.safetensors").unlink()
    assert "names b.safetensors, which is not there" in refusal_of(copy)


@pytest.mark.parametrize("text", ["[]", "{", '{"weight_map": {"x": 3}}', '{"weight_map": []}', "[" * 100_000])
def test_a_damaged_index_is_refused(copy, text):
    shard(copy, ["a.safetensors"])
    (copy / "unet" / f"{STEM}.safetensors.index.json").write_text(text)
    assert f"{STEM}.safetensors.index.json: " in refusal_of(copy)


def test_no_pickle_in_a_model_s_folder_is_read(copy, digest, trap):
    for place in (".", *PARTS, "tokenizer", "scheduler"):
        for name in ("pytorch_model.bin", f"{STEM}.bin", "model.ckpt", "training_args.pt", "optimizer.pkl"):
            (copy / place / name).write_bytes(trap)
    assert digest_of(load_model(copy)) == digest
    for part in PARTS:
        path = weights_of(copy, part)
        held = path.rename(copy / "held")
        assert f"{part}: found pickled weights, accepted: safetensors only; convert" in refusal_of(copy)
        held.rename(path)


# -- configurations -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("part", "options", "message"),
    [
        ("unet", {"norm_num_groups": 0}, "its config.json makes no network"),
        ("unet", {"layers_per_block": 10**6}, "found layers_per_block 1000000, accepted: no more than the 208 weights"),
        ("unet", {"block_out_channels": [16] * 1000}, "accepted: no more than the 208 weights in its file"),
        ("unet", {"block_out_channels": [10**9, 10**9]}, "its config.json makes no network"),
        (
            "unet",
            {"cross_attention_dim": 32},
            "found shape (32, 16), which does not fit its config.json; accepted: (32, 32)",
        ),
        ("unet", {"sample_size": 10**9}, "unet: found sample_size 1000000000, accepted: the latents' side in pixels"),
        ("unet", {"num_class_embeds": 10}, "found no weights for 1 of 209 parameters (class_embedding.weight)"),
        ("unet", {"quantization_config": {"load_in_8bit": True}}, "found quantised weights"),
        ("unet", {"attention_head_dim": [1, 2, 3]}, "its config.json makes no network"),
        ("vae", {"scaling_factor": None}, "vae: found scaling_factor None, accepted: a number above 0"),
        ("vae", {"norm_num_groups": 7}, "its config.json makes no network"),
        (
            "text_encoder",
            {"num_hidden_layers": 10**7},
            "found num_hidden_layers 10000000, accepted: no more than the 20",
        ),
        ("text_encoder", {"eos_token_id": None}, "text encoders: cannot run ("),
        ("text_encoder", {"hidden_act": "none"}, "its config.json makes no network"),
    ],
)
def test_a_configuration_that_is_not_that_of_the_weights_is_refused_before_any_step(copy, part, options, message):
    configure(copy, part, **options)
    assert message in refusal_of(copy)


def remove(path):
    shutil.rmtree(path) if path.is_dir() else path.unlink()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("unet/config.json", "config.json: cannot read: No such file"),
        ("vae", "found no diffusion_pytorch_model.safetensors; name a folder with all parts"),
        ("tokenizer", "tokenizer: no such folder"),
        ("tokenizer/tokenizer.json", "tokenizer: found no vocabulary"),
        ("scheduler/scheduler_config.json", "scheduler_config.json: cannot read: No such file"),
    ],
)
def test_a_missing_part_is_named(copy, name, message):
    remove(copy / name)
    assert message in refusal_of(copy)


def test_other_weights_are_named_where_those_of_the_right_name_are_missing(copy):
    path = weights_of(copy, "unet")
    path.rename(path.with_name("unet.safetensors"))
    assert f"found no {STEM}.safetensors, but unet.safetensors" in refusal_of(copy)


def test_a_tokenizer_that_does_not_say_how_long_prompts_may_be_is_bounded_by_the_text_encoder(copy):
    path = copy / "tokenizer" / "tokenizer_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"model_max_length": 10**30}))
    with pytest.raises(InputError, match="found 23 tokens, accepted: 22"):
        load_model(copy).check_prompts(["a photo of dog " + "on " * 19])


@pytest.mark.parametrize(
    ("part", "kind"),
    [("unet", "MyUNet"), ("vae", "AutoencoderTiny"), ("text_encoder", "BertModel"), ("tokenizer", "Foo")],
)
def test_parts_of_other_classes_are_refused_by_name(copy, part, kind):
    path = copy / "model_index.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {part: ["somewhere", kind]}))
    assert f"{part}: found '{kind}', accepted: " in refusal_of(copy)


def test_weights_that_fp16_cannot_hold_are_refused_in_fp16_alone(copy):
    change(copy, "unet", lambda state: state | {"conv_out.bias": torch.full((4,), 1e5)})
    load_model(copy, dtype="bf16")
    with pytest.raises(InputError, match=r"conv_out\.bias: found weights above 65504, too large for fp16; use fp32"):
        load_model(copy, dtype="fp16")


# -- LoRAs --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def lora(saved, tmp_path_factory):
    folder = tmp_path_factory.mktemp("lora") / "mine"
    torch.manual_seed(0)
    unet = add_lora("unet", make_pipeline(seed=5).unet, 2)
    with torch.no_grad():
        for name, parameter in unet.named_parameters():
            if "lora_" in name:
                parameter.normal_(std=0.3)
    unet.save_pretrained(folder / "unet")
    (folder / "edgesplit.json").write_text(json.dumps({"base": str(saved)}))
    return folder


@pytest.fixture(scope="module")
def lora_digest(lora):
    return digest_of(load_model(lora))


@pytest.fixture
def own_lora(lora, tmp_path):
    return shutil.copytree(lora, tmp_path / "lora")


@pytest.mark.parametrize(
    "rename",
    [
        lambda name: name.removeprefix("base_model.model.").replace(".weight", ".default.weight"),
        lambda name: name.replace("base_model.model.", "unet._orig_mod."),
    ],
)
def test_names_of_a_lora_s_weights_as_other_programs_write_them_are_known(own_lora, lora_digest, rename):
    change(own_lora, "unet", lambda state: {rename(name): tensor for name, tensor in state.items()})
    assert digest_of(load_model(own_lora)) == lora_digest


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (without("lora_A"), "found no weights for 32 of 64 parameters"),
        (without("lora_B"), "found no weights for 32 of 64 parameters"),
        (lambda state: dict(list(state.items())[1:]), "found no weights for 1 of 64 parameters"),
        (without("attn2"), "no weights for down_blocks.1.attentions.0.transformer_blocks.0.attn2.to_q"),
        (lambda state: {}, "found no weights, accepted: a LoRA that changes its base"),
        (lambda state: {name: 0 * tensor for name, tensor in state.items()}, "found only zeros, accepted: a LoRA"),
        (lambda state: {name: tensor * torch.nan for name, tensor in state.items()}, "not finite"),
        (lambda state: state | {"alpha": torch.ones(1)}, "no layer alpha"),
        (lambda state: {name: tensor[:1] for name, tensor in state.items()}, "found shape (1, "),
    ],
)
def test_a_lora_without_all_of_its_weights_is_refused(own_lora, edit, message):
    change(own_lora, "unet", edit)
    assert message in refusal_of(own_lora)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"r": 4}, "found shape (2, 32), which does not fit the unet of its base; accepted: (4, 32)"),
        ({"r": 10**9}, "r: found 1000000000, accepted: 1 to 4096"),
        ({"lora_alpha": float("nan")}, "lora_alpha: found nan, accepted: a number"),
        ({"rank_pattern": {"(x+x+)+y": 2}}, "rank_pattern: found '(x+x+)+y', accepted: names of layers"),
        ({"peft_type": "IA3"}, "found 'IA3', accepted: LORA"),
    ],
)
def test_a_lora_s_configuration_is_checked(own_lora, options, message):
    path = own_lora / "unet" / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | options))
    assert message in refusal_of(own_lora)


def test_no_pickle_in_a_lora_s_folder_is_read(own_lora, lora_digest, trap):
    for place in (".", "unet", "text_encoder"):
        for name in ("adapter_model.bin", "pytorch_lora_weights.bin", "training_args.bin", "optimizer.pt"):
            if (own_lora / place).is_dir():
                (own_lora / place / name).write_bytes(trap)
    assert digest_of(load_model(own_lora)) == lora_digest
    weights = own_lora / "unet" / "adapter_model.safetensors"
    weights.write_bytes(trap)
    refusal_of(own_lora)
    weights.unlink()
    assert "accepted: a LoRA in safetensors (pickles are refused)" in refusal_of(own_lora)
    (own_lora / "base.ckpt").write_bytes(trap)
    (own_lora / "edgesplit.json").write_text(json.dumps({"base": str(own_lora / "base.ckpt")}))
    assert "pickle checkpoints are refused" in refusal_of(own_lora)


def test_no_module_that_a_lora_names_is_imported(own_lora, lora_digest, tmp_path, monkeypatch):
    (tmp_path / "foreign.py").write_text(f"open({str(tmp_path / 'sprung')!r}, 'w').close()")
    monkeypatch.syspath_prepend(tmp_path)
    path = own_lora / "unet" / "adapter_config.json"
    options = {"megatron_config": {"hidden_size": 1}, "megatron_core": "foreign"}
    path.write_text(json.dumps(json.loads(path.read_text()) | options))
    assert digest_of(load_model(own_lora)) == lora_digest
    assert not (tmp_path / "sprung").exists()


def test_a_lora_s_regular_expression_is_never_run(own_lora, lora_digest):
    """It would take forever; the layers are those that the file has weights of."""
    path = own_lora / "unet" / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"target_modules": "(.*.*.*.*.*.*.*.*.*)*to_z"}))
    assert digest_of(load_model(own_lora)) == lora_digest


@pytest.mark.parametrize("base", ["a\0b", "x" * 5000, "no/such/base", "./."])
def test_a_base_that_is_none_is_refused(own_lora, base):
    (own_lora / "edgesplit.json").write_text(json.dumps({"base": base}))
    with pytest.raises(InputError) as caught:
        load_model(own_lora)
    assert "\n" not in str(caught.value)
    assert "\0" not in str(caught.value)
