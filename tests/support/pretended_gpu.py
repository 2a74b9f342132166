"""A GPU that is not there: `python pretended_gpu.py COMMAND ...` runs one of our commands on it.

Its tensors compute on the CPU but say that they are elsewhere, and what mixes them with the host's fails, as on
CUDA. The last line on stderr is JSON: how many tensors it made, and how often data crossed between it and the host.
"""

import atexit
import json
import sys

import torch
from torch.utils import backend_registration
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing
from torch.utils._pytree import tree_leaves, tree_map

NAME = "pretended"
aten = torch.ops.aten
CROSSING = {aten._to_copy.default, aten.copy_.default, aten._copy_from.default, aten._local_scalar_dense.default}
COUNTS = {"tensors": 0, "crossings": 0}


class OnGpu(torch.Tensor):
    """A tensor of the GPU around one of the CPU."""

    @staticmethod
    def __new__(cls, inner):
        facts = {"strides": inner.stride(), "storage_offset": inner.storage_offset(), "dtype": inner.dtype}
        return torch.Tensor._make_wrapper_subclass(cls, inner.size(), device=torch.device(NAME, 0), **facts)

    def __init__(self, inner):
        self.inner = inner
        COUNTS["tensors"] += 1

    def storage(self):
        return self.inner.storage()  # for safetensors, which looks for shared ones

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        return operate(func, args, kwargs or {})


class Gpu(TorchDispatchMode):
    """Serves operations that ask for the device."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        return operate(func, args, kwargs or {})


def operate(func, args, kwargs):
    """The operation on the CPU; its result is on the GPU where its tensors are or where it shall be."""
    tensors = [x for x in tree_leaves((args, kwargs)) if isinstance(x, torch.Tensor)]
    here = [x for x in tensors if not isinstance(x, OnGpu)]
    if func not in CROSSING and len(here) < len(tensors) and any(x.dim() for x in here):
        raise RuntimeError(f"{func}: found tensors on the GPU and on the CPU")
    wanted = kwargs.get("device")
    there = len(here) < len(tensors) if wanted is None else torch.device(wanted).type == NAME
    if func in CROSSING:
        there = there and func is not aten._local_scalar_dense.default
        COUNTS["crossings"] += there != (len(here) < len(tensors)) or 0 < len(here) < len(tensors)
    on_cpu = {"device": torch.device("cpu"), "pin_memory": None}
    result = func(*tree_map(_inner, args), **tree_map(_inner, kwargs | {k: on_cpu[k] for k in on_cpu.keys() & kwargs}))
    if func is aten.copy_.default:
        return args[0]
    if not there:
        return result
    result = tree_map(lambda x: OnGpu(x) if isinstance(x, torch.Tensor) else x, result)
    return return_and_correct_aliasing(func, args, kwargs, result) if len(here) < len(tensors) else result


def _inner(x):
    return x.inner if isinstance(x, OnGpu) else x


def _accelerator_there(make):
    """An accelerator on the GPU: accelerate finds no device by itself."""

    def made(device, mixed_precision="no"):
        accelerator = make("cpu", mixed_precision)
        accelerator.state._shared_state["device"] = torch.device(NAME, 0)
        return accelerator

    return made


def pretend():
    """Let our code, not imported so far, find this GPU and no other."""
    torch.inference_mode = torch.no_grad  # inside it such tensors cannot be made
    backend_registration._setup_privateuseone_for_python_backend(NAME)
    backend = torch.library.Library("aten", "IMPL")
    for operator in ("empty_strided", "empty.memory_format", "_copy_from", "_to_copy"):  # indexing by a list calls them
        name, _, overload = operator.partition(".")
        backend.impl(operator, _kernel(getattr(getattr(aten, name), overload or "default")), "PrivateUse1")
    from edgesplit.diffusion import dreambooth_command as run
    from edgesplit.diffusion.train import loop as training

    run.pick_device = lambda name: f"{NAME}:0"
    training.make_accelerator = _accelerator_there(training.make_accelerator)
    return backend


def _kernel(operator):
    return lambda *args, **kwargs: operate(operator, args, kwargs)


if __name__ == "__main__":
    registered = pretend()  # for as long as it is held
    atexit.register(lambda: print(json.dumps(COUNTS), file=sys.stderr))
    sys.argv = sys.argv[1:]
    from edgesplit.diffusion.cli import dreambooth_main, hybrid_main
    from edgesplit.metrics.cli import main as pai_sweep_main

    with Gpu():
        {"dreambooth": dreambooth_main, "hybrid": hybrid_main, "pai-sweep": pai_sweep_main}[sys.argv[0]]()
