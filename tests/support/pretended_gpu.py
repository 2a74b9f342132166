"""A GPU that is not there: `python pretended_gpu.py COMMANDS` runs commands of ours on it, one after another.

COMMANDS is JSON, a list of lists such as ["hybrid", "--steps", "4"]. The GPU's tensors compute on the CPU but say that
they are elsewhere, and what mixes them with the host's fails, as on CUDA. The last line on stderr is JSON: for every
command, how many tensors it made and how often data crossed between the GPU and the host.
"""

import gc
import json
import sys

import torch
from torch.utils import backend_registration
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing

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
    tensors = list(_tensors((args, kwargs)))
    here = [x for x in tensors if not isinstance(x, OnGpu)]
    if func not in CROSSING and len(here) < len(tensors) and any(x.dim() for x in here):
        raise RuntimeError(f"{func}: found tensors on the GPU and on the CPU")
    wanted = kwargs.get("device")
    there = len(here) < len(tensors) if wanted is None else torch.device(wanted).type == NAME
    if func in CROSSING:
        there = there and func is not aten._local_scalar_dense.default
        COUNTS["crossings"] += there != (len(here) < len(tensors)) or 0 < len(here) < len(tensors)
    on_cpu = {"device": torch.device("cpu"), "pin_memory": None}
    result = func(
        *_mapped(_inner, args), **_mapped(_inner, kwargs | {k: on_cpu[k] for k in on_cpu.keys() & kwargs.keys()})
    )
    if func is aten.copy_.default:
        return args[0]
    if not there:
        return result
    result = _mapped(OnGpu, result)
    return return_and_correct_aliasing(func, args, kwargs, result) if len(here) < len(tensors) else result


def _inner(tensor):
    return tensor.inner if isinstance(tensor, OnGpu) else tensor


def _tensors(value):
    """All tensors in an operation's arguments; torch's own search knows more kinds of trees, and takes far longer."""
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, list | tuple | dict):
        for part in value.values() if isinstance(value, dict) else value:
            yield from _tensors(part)


def _mapped(function, value):
    """Arguments or results with the function applied to their tensors."""
    if isinstance(value, torch.Tensor):
        return function(value)
    if isinstance(value, list | tuple):
        return type(value)(_mapped(function, part) for part in value)
    if isinstance(value, dict):
        return {name: _mapped(function, part) for name, part in value.items()}
    return value


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
    from edgesplit.diffusion.inference import references
    from edgesplit.diffusion.train import loop

    references.pick_device = lambda name: f"{NAME}:0"
    loop.make_accelerator = _accelerator_there(loop.make_accelerator)
    return backend


def _kernel(operator):
    return lambda *args, **kwargs: operate(operator, args, kwargs)


def run(command):
    """Run one command on the GPU; returns what it counted. One that fails ends the process."""
    from edgesplit.diffusion.cli import dreambooth_main, hybrid_main
    from edgesplit.metrics.cli import main as pai_sweep_main

    mains = {"dreambooth": dreambooth_main, "hybrid": hybrid_main, "pai-sweep": pai_sweep_main}
    sys.argv = command
    COUNTS.update(dict.fromkeys(COUNTS, 0))
    try:
        with Gpu():
            mains[command[0]]()
    except SystemExit as left:
        if left.code:
            raise
    return dict(COUNTS)


if __name__ == "__main__":
    registered = pretend()  # for as long as it is held
    import edgesplit.diffusion.train.run  # noqa: F401

    gc.freeze()  # collections between the models need not look through the libraries
    counts = [run(command) for command in json.loads(sys.argv[1])]
    gc.unfreeze()
    print(json.dumps(counts), file=sys.stderr)
