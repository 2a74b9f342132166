"""What a GPU may lack, and one that is not there: whole commands on it, without a tensor of the host's in its work."""

from contextlib import nullcontext

import pytest
import torch

from edgesplit.common.errors import InputError
from edgesplit.diffusion.gpu import check_bf16, gpu_memory, out_of_memory


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 GiB"), True),
        (RuntimeError("GET was unable to find an engine to execute this computation"), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), True),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
    ],
)
def test_a_full_memory_is_one_line_whichever_library_says_so(error, expected):
    assert out_of_memory(error) == expected
    with pytest.raises(InputError if expected else type(error)) as caught, gpu_memory("the models", "free some"):
        raise error
    assert not expected or str(caught.value) == "--device: the GPU's memory does not hold the models; free some"


def test_bf16_is_refused_on_a_gpu_that_emulates_it(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device", lambda device: nullcontext())
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "Quadro RTX 8000")
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: including_emulation)
    check_bf16("cpu")
    with pytest.raises(InputError, match="found bf16, which Quadro RTX 8000 lacks; use fp16"):
        check_bf16("cuda:0")
