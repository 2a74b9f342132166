"""The names of FLUX.1's checkpoints, as its authors wrote them, for the network of diffusers.

diffusers converts transformers of the published width alone; a test holds that this gives the same.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from .one_file import Tensors

if TYPE_CHECKING:
    from torch import Tensor

SIGN = "double_blocks.0.img_attn.norm.key_norm.scale"
"""Name of a tensor in checkpoints."""
EMBEDDERS = {
    "time_in": "time_text_embed.timestep_embedder",
    "vector_in": "time_text_embed.text_embedder",
    "guidance_in": "time_text_embed.guidance_embedder",
}
PLAIN = {"txt_in": "context_embedder", "img_in": "x_embedder", "final_layer.linear": "proj_out"}
STREAMS = {
    "img": ("norm1.linear", "attn.to_{}", "attn.norm_{}", "attn.to_out.0", "ff"),
    "txt": ("norm1_context.linear", "attn.add_{}_proj", "attn.norm_added_{}", "attn.to_add_out", "ff_context"),
}
"""What a block with two streams calls in each: modulation, projections, their norms, what comes out, feed-forward."""
SINGLE = {"modulation.lin": "norm.linear", "linear2": "proj_out"}
NORMS = {"query_norm": "q", "key_norm": "k"}


def flux_transformer(tensors: Tensors, network: Any) -> Tensors:
    """The state of a transformer; names that it does not know stay as they are.

    Args:
        tensors: weights by the names of a checkpoint.
        network: the transformer, for its width.
    """
    width = network.config.num_attention_heads * network.config.attention_head_dim
    state: Tensors = {}
    for name, tensor in tensors.items():
        for new, part in _converted(name, tensor, width):
            state[new] = part
    return state


def _converted(name: str, tensor: "Tensor", width: int) -> Iterator[tuple[str, "Tensor"]]:
    """The parts of one tensor, each by its new name."""
    layer, _, kind = name.rpartition(".")
    if layer == "final_layer.adaLN_modulation.1":  # diffusers has scale and shift the other way round
        yield f"norm_out.linear.{kind}", tensor.roll(len(tensor) // 2, 0)
    elif name.startswith("double_blocks."):
        _, block, inner = layer.split(".", 2)
        yield from _of_double(f"transformer_blocks.{block}.", inner, kind, tensor)
    elif name.startswith("single_blocks."):
        _, block, inner = layer.split(".", 2)
        yield from _of_single(f"single_transformer_blocks.{block}.", inner, kind, tensor, width)
    elif (begin := layer.partition(".")[0]) in EMBEDDERS:
        inner = {"in_layer": "linear_1", "out_layer": "linear_2"}.get(layer.partition(".")[2], layer)
        yield f"{EMBEDDERS[begin]}.{inner}.{kind}", tensor
    else:
        yield f"{PLAIN.get(layer, layer)}.{kind}", tensor


def _of_double(block: str, inner: str, kind: str, tensor: "Tensor") -> Iterator[tuple[str, "Tensor"]]:
    """The same of a block with two streams."""
    stream, _, layer = inner.partition("_")
    modulation, projection, norm, out, feed = STREAMS.get(stream, STREAMS["img"])
    names = {"mod.lin": modulation, "attn.proj": out, "mlp.0": f"{feed}.net.0.proj", "mlp.2": f"{feed}.net.2"}
    if layer == "attn.qkv":
        for letter, part in zip("qkv", tensor.chunk(3), strict=False):
            yield f"{block}{projection.format(letter)}.{kind}", part
    elif layer.startswith("attn.norm."):
        yield f"{block}{norm.format(NORMS.get(layer.rpartition('.')[2], layer))}.weight", tensor
    else:
        yield f"{block}{names.get(layer, inner)}.{kind}", tensor


def _of_single(block: str, inner: str, kind: str, tensor: "Tensor", width: int) -> Iterator[tuple[str, "Tensor"]]:
    """The same of a block with one stream."""
    if inner == "linear1":
        names = ("attn.to_q", "attn.to_k", "attn.to_v", "proj_mlp")
        for name, part in zip(names, tensor.split([*[width] * 3, len(tensor) - 3 * width]), strict=True):
            yield f"{block}{name}.{kind}", part
    elif inner.startswith("norm."):
        yield f"{block}attn.norm_{NORMS.get(inner.rpartition('.')[2], inner)}.weight", tensor
    else:
        yield f"{block}{SINGLE.get(inner, inner)}.{kind}", tensor
