"""Checkpoints in one file of tiny models, with the names that the models' authors gave."""

import re

import torch
from safetensors.torch import save_file

RESNET = {"norm1": "in_layers.0", "conv1": "in_layers.2", "norm2": "out_layers.0", "conv2": "out_layers.3",
          "time_emb_proj": "emb_layers.1", "conv_shortcut": "skip_connection"}  # fmt: skip
UNET = {"time_embedding.linear_1": "time_embed.0", "time_embedding.linear_2": "time_embed.2",
        "conv_in": "input_blocks.0.0", "conv_norm_out": "out.0", "conv_out": "out.2",
        "add_embedding.linear_1": "label_emb.0.0", "add_embedding.linear_2": "label_emb.0.2"}  # fmt: skip
VAE = [(r"down_blocks\.(\d+)\.resnets\.(\d+)", r"down.\1.block.\2"), (r"downsamplers\.0", "downsample"),
       (r"down_blocks", "down"), (r"upsamplers\.0", "upsample"), (r"mid_block\.attentions\.0", "mid.attn_1"),
       (r"group_norm", "norm"), (r"to_q", "q"), (r"to_k", "k"), (r"to_v", "v"), (r"to_out\.0", "proj_out"),
       (r"conv_norm_out", "norm_out"), (r"conv_shortcut", "nin_shortcut")]  # fmt: skip
OPEN_CLIP = [(r"text_model\.", ""), (r"encoder\.layers", "transformer.resblocks"), (r"layer_norm1", "ln_1"),
             (r"layer_norm2", "ln_2"), (r"self_attn", "attn"), (r"fc1", "c_fc"), (r"fc2", "c_proj"),
             (r"final_layer_norm", "ln_final"), (r"embeddings\.position_embedding\.weight", "positional_embedding"),
             (r"embeddings\.token_embedding", "token_embedding"),
             (r"text_projection\.weight", "text_projection")]  # fmt: skip
SD3 = [(r"pos_embed\.proj", "x_embedder.proj"), (r"pos_embed\.pos_embed", "pos_embed"),
       (r"time_text_embed\.timestep_embedder\.linear_1", "t_embedder.mlp.0"),
       (r"time_text_embed\.timestep_embedder\.linear_2", "t_embedder.mlp.2"),
       (r"time_text_embed\.text_embedder\.linear_1", "y_embedder.mlp.0"),
       (r"time_text_embed\.text_embedder\.linear_2", "y_embedder.mlp.2"), (r"^proj_out", "final_layer.linear"),
       (r"norm_out\.linear", "final_layer.adaLN_modulation.1"), (r"^transformer_blocks", "joint_blocks"),
       (r"norm1_context\.linear", "context_block.adaLN_modulation.1"), (r"norm1\.linear", "x_block.adaLN_modulation.1"),
       (r"\.ff_context\.", ".context_block.mlp."), (r"\.ff\.", ".x_block.mlp."), (r"net\.0\.proj", "fc1"),
       (r"net\.2", "fc2"), (r"(attn2?)\.norm_(q|k)", r"x_block.\1.ln_\2"),
       (r"attn\.norm_added_(q|k)", r"context_block.attn.ln_\1"), (r"(attn2?)\.to_out\.0", r"x_block.\1.proj"),
       (r"attn\.to_add_out", "context_block.attn.proj"), (r"(attn2?)\.to_(q|k|v)", r"x_block.\1.\2"),
       (r"attn\.add_(q|k|v)_proj", r"context_block.attn.\1")]  # fmt: skip
FLUX = [(r"time_text_embed\.timestep_embedder", "time_in"), (r"time_text_embed\.text_embedder", "vector_in"),
        (r"time_text_embed\.guidance_embedder", "guidance_in"), (r"linear_1", "in_layer"), (r"linear_2", "out_layer"),
        (r"context_embedder", "txt_in"), (r"x_embedder", "img_in"), (r"^proj_out", "final_layer.linear"),
        (r"norm_out\.linear", "final_layer.adaLN_modulation.1"),
        (r"^single_transformer_blocks\.(\d+)\.norm\.linear", r"single_blocks.\1.modulation.lin"),
        (r"^single_transformer_blocks\.(\d+)\.proj_out", r"single_blocks.\1.linear2"),
        (r"^single_transformer_blocks\.(\d+)\.proj_mlp", r"single_blocks.\1.mlp"),
        (r"^single_transformer_blocks\.(\d+)\.attn\.to_(q|k|v)", r"single_blocks.\1.\2"),
        (r"^single_transformer_blocks\.(\d+)\.attn\.norm_q\.weight", r"single_blocks.\1.norm.query_norm.scale"),
        (r"^single_transformer_blocks\.(\d+)\.attn\.norm_k\.weight", r"single_blocks.\1.norm.key_norm.scale"),
        (r"^transformer_blocks", "double_blocks"), (r"norm1_context\.linear", "txt_mod.lin"),
        (r"norm1\.linear", "img_mod.lin"),
        (r"\.ff_context\.net\.0\.proj", ".txt_mlp.0"), (r"\.ff_context\.net\.2", ".txt_mlp.2"),
        (r"\.ff\.net\.0\.proj", ".img_mlp.0"), (r"\.ff\.net\.2", ".img_mlp.2"),
        (r"attn\.norm_q\.weight", "img_attn.norm.query_norm.scale"),
        (r"attn\.norm_k\.weight", "img_attn.norm.key_norm.scale"),
        (r"attn\.norm_added_q\.weight", "txt_attn.norm.query_norm.scale"),
        (r"attn\.norm_added_k\.weight", "txt_attn.norm.key_norm.scale"), (r"attn\.to_out\.0", "img_attn.proj"),
        (r"attn\.to_add_out", "txt_attn.proj"), (r"attn\.to_(q|k|v)", r"img_attn.\1"),
        (r"attn\.add_(q|k|v)_proj", r"txt_attn.\1")]  # fmt: skip


def renamed(state, rules):
    """A state with regular expressions replaced in all its names, one after another."""
    result = {}
    for name, tensor in state.items():
        new = name
        for pattern, replacement in rules:
            new = re.sub(pattern, replacement, new)
        result[new] = tensor
    return result


def joined(state, parts, whole):
    """The tensors of some last names, such as q, k and v, as one, one below the other."""
    result = {name: tensor for name, tensor in state.items() if name.split(".")[-2:-1] not in [[p] for p in parts]}
    for name in state:
        if name.split(".")[-2:-1] == [parts[0]]:
            begin, kind = name.rsplit(f".{parts[0]}.", 1)
            result[f"{begin}.{whole}{kind}"] = torch.cat([state[f"{begin}.{part}.{kind}"] for part in parts])
    return result


def halves_swapped(state, *names):
    """Scale and shift the other way round."""
    return {n: torch.cat(t.chunk(2)[::-1]) if n.startswith(names) else t for n, t in state.items()}


def unet(network):
    """A UNet by the names of its authors."""
    per_block, result = network.config.layers_per_block + 1, {}
    with_attention = [kind.startswith("CrossAttn") for kind in network.config.up_block_types]
    for name, tensor in network.state_dict().items():
        new = next((name.replace(a, b) for a, b in UNET.items() if name.startswith(f"{a}.")), name)
        way, _, rest = name.partition("_block")
        if way in ("down", "up"):
            block, kind, layer, inner = re.fullmatch(r"s\.(\d+)\.(\w+)\.(\d+)\.(.*)", rest).groups()
            block, layer = int(block), int(layer)
            place = {"resnets": 0, "attentions": 1, "downsamplers": 0, "upsamplers": 1 + with_attention[block]}[kind]
            if kind == "downsamplers":
                layer, inner = per_block - 1, inner.replace("conv", "op")
            if kind == "upsamplers":
                layer = per_block - 1
            number = per_block * block + layer + (way == "down")
            new = f"{'input' if way == 'down' else 'output'}_blocks.{number}.{place}.{inner}"
        elif way == "mid":
            kind, layer, inner = re.fullmatch(r"\.(\w+)\.(\d+)\.(.*)", rest).groups()
            new = f"middle_block.{2 * int(layer) if kind == 'resnets' else 1}.{inner}"
        if "resnets" in name:
            *head, layer, kind = new.split(".")
            new = ".".join([*head, RESNET[layer], kind])
        result[new] = tensor
    return result


def vae(network):
    """An autoencoder by the names of its authors."""
    last, result = len(network.config.up_block_types) - 1, {}
    for name, tensor in network.state_dict().items():
        new = re.sub(r"up_blocks\.(\d+)\.resnets\.(\d+)", lambda m: f"up.{last - int(m[1])}.block.{m[2]}", name)
        new = re.sub(r"up_blocks\.(\d+)", lambda m: f"up.{last - int(m[1])}", new)
        new = re.sub(r"mid_block\.resnets\.(\d+)", lambda m: f"mid.block_{int(m[1]) + 1}", new)
        one_by_one = "attentions" in name and "weight" in name and "group_norm" not in name
        result[new] = tensor[..., None, None] if one_by_one else tensor
    return renamed(result, VAE)


def clip(network):
    """A CLIP by the names of transformers of old."""
    state = network.state_dict()
    return {n if n.startswith("text_") else f"text_model.{n}": tensor for n, tensor in state.items()}


def projectionless(network):
    """The same of one whose projection changes nothing."""
    return {name: tensor for name, tensor in clip(network).items() if "projection" not in name}


def open_clip(network):
    """A CLIP by the names of OpenCLIP, with a layer more, as Stable Diffusion 2's have it."""
    state = renamed(clip(network), OPEN_CLIP)
    state = joined(renamed(state, [(r"(q|k|v)_proj", r"\1")]), "qkv", "in_proj_")
    if "text_projection" in state:
        state["text_projection"] = state["text_projection"].T
    return state


def sd3(network):
    """Stable Diffusion 3's transformer by the names of its authors."""
    last = network.config.num_layers - 1
    state = joined(renamed(network.state_dict(), SD3), "qkv", "qkv.")
    return halves_swapped(state, "final_layer.adaLN", f"joint_blocks.{last}.context_block.adaLN")


def flux(network):
    """FLUX.1's transformer by the names of its authors."""
    state = joined(renamed(network.state_dict(), FLUX), "qkv", "qkv.")
    single = {name: tensor for name, tensor in state.items() if name.startswith("single_blocks.")}
    others = {name: tensor for name, tensor in state.items() if name not in single}
    return halves_swapped(others, "final_layer.adaLN") | joined(single, ["qkv", "mlp"], "linear1.")


CLIP_L, CLIP_G, T5 = (f"text_encoders.{name}.transformer." for name in ("clip_l", "clip_g", "t5xxl"))
NETWORK, FIRST_STAGE = "model.diffusion_model.", "first_stage_model."
LAYOUTS = {
    "sd": {"unet": (NETWORK, unet), "vae": (FIRST_STAGE, vae), "text_encoder": ("cond_stage_model.transformer.", clip)},
    "sd2": {"unet": (NETWORK, unet), "vae": (FIRST_STAGE, vae), "text_encoder": ("cond_stage_model.model.", open_clip)},
    "sdxl": {
        "unet": (NETWORK, unet), "vae": (FIRST_STAGE, vae),
        "text_encoder": ("conditioner.embedders.0.transformer.", clip),
        "text_encoder_2": ("conditioner.embedders.1.model.", open_clip),
    },
    "sd3": {
        "transformer": (NETWORK, sd3), "vae": (FIRST_STAGE, vae), "text_encoder": (CLIP_L, projectionless),
        "text_encoder_2": (CLIP_G, clip), "text_encoder_3": (T5, lambda network: network.state_dict()),
    },
    "flux": {
        "transformer": (NETWORK, flux), "vae": ("vae.", vae), "text_encoder": (CLIP_L, clip),
        "text_encoder_2": (T5, lambda network: network.state_dict()),
    },
    "flux-alone": {"transformer": ("", flux)},
}  # fmt: skip
"""Part -> what its names begin with in a file, and how they are made."""


def checkpoint_state(pipeline, layout, without=()):
    """All tensors of a checkpoint, by the names of its authors."""
    state = {}
    for part, (prefix, made) in LAYOUTS[layout].items():
        network = getattr(pipeline, part)
        if part not in without and network is not None:
            state |= {f"{prefix}{name}": tensor.clone().contiguous() for name, tensor in made(network).items()}
    return state


def save_checkpoint(path, pipeline, layout, without=(), notes=None, **more):
    """Write a checkpoint in one file."""
    save_file(checkpoint_state(pipeline, layout, without) | more, path, notes)
    return path
