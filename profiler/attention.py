"""Which kernel computes the attention of a step: torch chooses it by device, number format and shapes."""

import re
from collections.abc import Callable

KERNEL = re.compile(r"_scaled_dot_product_(?:attention_)?(\w+?)(?:_attention)?(?:_for_\w+)?")
"""Names of torch's attention kernels, such as _scaled_dot_product_flash_attention_for_cpu."""
PLAIN = "math"
"""Torch's name for attention by plain matrix products, which no kernel's name shows."""


def attention_of(step: Callable[[], object]) -> str:
    """Run a step once, and name the kernels that computed its attention, such as "flash" or "cudnn and efficient".

    In torch's inference mode the choice of the kernel would not be seen, so the step must not set it.
    """
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode

    found: set[str] = set()

    class Seen(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
            if match := KERNEL.fullmatch(func._schema.name.partition("::")[2]):
                found.add(match[1])
            return func(*args, **(kwargs or {}))

    with torch.no_grad(), Seen():
        step()
    return " and ".join(sorted(found)) or PLAIN
