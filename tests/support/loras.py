"""LoRAs with random weights on tiny models, as several programs write them."""

import re

import torch
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict
from safetensors.torch import save_file
from tiny_families import tiny_pipeline

TARGETS = ["to_q", "to_k", "to_v", "to_out.0"]


def network_of(pipeline):
    return getattr(pipeline, "transformer", None) or pipeline.unet


def lora_state(name, alpha=4):
    """A LoRA with random weights on the network of a tiny model, by the names within it."""
    network = network_of(tiny_pipeline(name))
    torch.manual_seed(7)
    network.add_adapter(LoraConfig(r=2, lora_alpha=alpha, target_modules=TARGETS, init_lora_weights=False))
    return {key: value.detach().clone() for key, value in get_peft_model_state_dict(network).items()}


def prefix_of(name):
    return "unet" if name in ("sd", "sdxl") else "transformer"


def of_diffusers(folder, name):
    state = {f"{prefix_of(name)}.{key}": value for key, value in lora_state(name).items()}
    save_file(state, folder / "pytorch_lora_weights.safetensors")


def of_kohya(folder, name):
    """Names of kohya's trainers, with an alpha for each layer."""
    state = {}
    for key, value in lora_state(name).items():
        layer, which = re.fullmatch(r"(.*)\.lora_([AB])\.weight", key).groups()
        kohya = f"lora_unet_{layer.replace('.', '_')}"
        state[f"{kohya}.{'lora_down' if which == 'A' else 'lora_up'}.weight"] = value
        state[f"{kohya}.alpha"] = torch.tensor(1.0)
    save_file(state, folder / "style_v1.safetensors")


def of_kohya_for_wide_blocks(folder, name):
    """Names of kohya's trainers for FLUX.1: those of its authors, with q, k and v in one."""
    torch.manual_seed(7)
    network = network_of(tiny_pipeline(name))
    width = network.config.num_attention_heads * network.config.attention_head_dim
    shapes = {
        "double_blocks_0_img_attn_qkv": (3 * width, width), "double_blocks_0_txt_attn_qkv": (3 * width, width),
        "double_blocks_0_img_attn_proj": (width, width), "double_blocks_0_txt_mlp_0": (4 * width, width),
        "double_blocks_0_img_mlp_2": (width, 4 * width), "single_blocks_0_linear2": (width, 5 * width),
        "single_blocks_0_modulation_lin": (3 * width, width),
    }  # fmt: skip
    state = {}
    for layer, (out, into) in shapes.items():
        state[f"lora_unet_{layer}.lora_down.weight"] = torch.randn(2, into)
        state[f"lora_unet_{layer}.lora_up.weight"] = torch.randn(out, 2)
        state[f"lora_unet_{layer}.alpha"] = torch.tensor(1.0)
    save_file(state, folder / "style_v1.safetensors")
