"""Networks with random weights: made where they shall be, and only where they fit."""

import pytest
import torch

from edgesplit.common.errors import InputError
from edgesplit.profiler import networks
from edgesplit.profiler.timed_network import TimedNetwork
from edgesplit.profiler.workload import Workload


def test_weights_beyond_the_free_memory_are_refused_with_the_bytes_before_they_are_made(monkeypatch):
    """2,567,463,684 parameters of SDXL's UNet, 2 bytes each."""
    monkeypatch.setattr(networks, "free_bytes", lambda device: 5_000_000_000)
    with pytest.raises(InputError, match=r"sdxl.json: 2,567,463,684 weights need 5.1 GB, and cpu has 5.0 GB free; use"):
        TimedNetwork(Workload(model="sdxl", device="cpu", dtype="fp16"))
    monkeypatch.setattr(networks, "free_bytes", lambda device: 5_200_000_000)
    made = []
    monkeypatch.setattr(
        networks, "_made", lambda path, make, device, dtype: made.append(device) or torch.nn.Linear(2, 2)
    )
    TimedNetwork(Workload(model="sdxl", device="cpu", dtype="fp16"))
    assert made == ["meta", "cpu"]


@pytest.mark.parametrize(
    ("model", "dtype", "says"),
    [
        ("flux.1-dev", "fp32", "11,901,408,320 weights need 47.6 GB"),
        ("sd3.5-medium", "bf16", "2,243,171,520 weights need 5.4 GB"),  # 0.9 GB of them its table of positions
    ],
)
def test_transformers_are_never_made_where_they_do_not_fit(monkeypatch, model, dtype, says):
    monkeypatch.setattr(networks, "free_bytes", lambda device: 5_000_000_000)
    with pytest.raises(InputError, match=f"{model}.json: {says}, and cpu has 5.0 GB free; use"):
        TimedNetwork(Workload(model=model, device="cpu", dtype=dtype))


def test_the_free_memory_is_the_device_s(monkeypatch):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (7, 9))
    monkeypatch.setattr(torch.xpu, "mem_get_info", lambda device: (5, 9))
    assert [networks.free_bytes(device) for device in ("cuda:0", "xpu:1", "meta")] == [7, 5, None]
    assert networks.free_bytes("mps") > 0
    assert networks.free_bytes("cpu") > 0


def test_a_network_has_its_number_format_from_the_start(tmp_path):
    network = networks.make_network(tmp_path, lambda: torch.nn.Linear(3, 4), "cpu", torch.bfloat16)
    assert {parameter.dtype for parameter in network.parameters()} == {torch.bfloat16}
    assert not any(parameter.requires_grad for parameter in network.parameters())
    assert torch.get_default_dtype() is torch.float32
