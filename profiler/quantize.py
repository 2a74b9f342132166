"""Quantised weights, by torchao: fewer bytes to read, and on some devices faster products."""

from importlib import import_module
from importlib.util import find_spec
from typing import Any

from ..common.errors import InputError
from .workload import Quantized

FP8_CAPABILITY = (8, 9)
"""CUDA's compute capability from which a GPU multiplies in fp8: Ada and Hopper."""


def check_quantize(quantize: Quantized | None) -> None:
    """Refuse to quantise without the package that does it.

    Raises:
        InputError: naming the package.
    """
    if quantize and find_spec("torchao") is None:
        raise InputError(f"--quantize: found {quantize}, which needs torchao; pip install torchao")


def check_fp8(quantize: Quantized | None, device: str) -> None:
    """Refuse fp8 on a device that does not multiply in it.

    Raises:
        InputError: naming the device.
    """
    if quantize != "fp8":
        return
    import torch

    if not device.startswith("cuda"):
        raise InputError(f"--quantize: found fp8, accepted on {device}: int8; only NVIDIA's GPUs multiply in fp8")
    if torch.cuda.get_device_capability(device) < FP8_CAPABILITY:
        raise InputError(
            f"--quantize: found fp8, which {torch.cuda.get_device_name(device)} lacks; use --quantize int8"
        )


def quantized(network: Any, quantize: Quantized) -> Any:
    """The network with the weights of its linear layers quantised; those of convolutions stay as they are.

    "int8" quantises weights alone, "fp8" weights and activations.

    Raises:
        InputError: where torchao does not fit torch.
    """
    try:
        ao = import_module("torchao.quantization")
    except (ImportError, RuntimeError, AttributeError) as error:
        raise InputError(f"--quantize: torchao cannot be imported ({error}); pip install --upgrade torchao") from error
    config = ao.Int8WeightOnlyConfig() if quantize == "int8" else ao.Float8DynamicActivationFloat8WeightConfig()
    ao.quantize_(network, config)
    return network
