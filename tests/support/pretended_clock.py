"""`hwprof bench` on GPUs that are not there, one of each kind: `python pretended_clock.py FOLDER OPTIONS`.

The tensors of each device are those of `pretended_gpu`; its events tell the host's time. The profiles are KIND.json in
the folder. The last line on stderr is JSON: for every kind, how often its functions "synchronize" and "empty_cache"
were called.
"""

import json
import sys
import time
from types import SimpleNamespace

import pretended_gpu
import torch
import torch._dynamo  # looks at the devices that there are, so it goes before the one that is not
from torch.overrides import TorchFunctionMode

FACTS = SimpleNamespace(uuid="0", major=9, minor=0)


class Event:
    """An event of the device, recorded when it is reached, as all work is done at once."""

    def __init__(self, enable_timing):
        assert enable_timing

    def record(self):
        self.at_s = time.perf_counter()

    def elapsed_time(self, other):
        return 1e3 * (other.at_s - self.at_s)


class Elsewhere(TorchFunctionMode):
    """Sends what is meant for the device to the GPU of `pretended_gpu`, before torch looks for a driver."""

    def __init__(self, kind):
        super().__init__()
        self.kind = kind

    def __torch_function__(self, func, types, args=(), kwargs=None):
        renamed = {name: self.renamed(value) for name, value in (kwargs or {}).items()}
        return func(*map(self.renamed, args), **renamed)

    def renamed(self, value):
        named = isinstance(value, str | torch.device) and str(value).partition(":")[0] == self.kind
        return torch.device(pretended_gpu.NAME, 0) if named else value


def pretend(kind):
    """Let torch have one GPU of this kind."""
    module, counted = getattr(torch, kind), {"synchronize": 0, "empty_cache": 0}

    def count(name):
        counted[name] += 1

    fakes = {
        "Event": Event, "is_available": lambda: True, "device_count": lambda: 1, "set_device": lambda index: None,
        "get_device_name": lambda device: f"Pretended {kind}", "mem_get_info": lambda device: (1 << 30, 1 << 31),
        "get_device_properties": lambda device: FACTS,
        "synchronize": lambda: count("synchronize"), "empty_cache": lambda: count("empty_cache"),
    }  # fmt: skip
    for name, fake in fakes.items():
        setattr(module, name, fake)
    torch.backends.mps.is_available = lambda: kind == "mps"
    torch.mps.event.Event = Event
    return counted


def measure(kind, folder, options):
    """Run `hwprof bench` on the pretended device; returns how often it waited for the device and freed its memory."""
    from edgesplit.profiler import bench, cli

    counted = pretend(kind)
    bench.BATCH_LIMIT = 4  # no memory is ever full
    sys.argv = ["hwprof", "bench", "--device", kind, *options, "-o", f"{folder}/{kind}.json"]
    try:
        with pretended_gpu.Gpu(), Elsewhere(kind):
            cli.main()
    except SystemExit as left:
        if left.code:
            raise
    return counted


if __name__ == "__main__":
    registered = pretended_gpu.pretend()
    _, where, *words = sys.argv
    counts = {kind: measure(kind, where, words) for kind in ("mps", "xpu", "cuda")}
    print(json.dumps(counts), file=sys.stderr)
