"""What a GPU may lack, and one that is not there: whole commands on it, without a tensor of the host's in its work."""

import json
import shutil
import sys
from contextlib import nullcontext
from pathlib import Path

import commands
import numpy as np
import pandas as pd
import pytest
import torch
from models import save_cohort, save_finished_cohort
from PIL import Image
from torch.utils import backend_registration

from edgesplit.common.errors import InputError
from edgesplit.diffusion.cli import dreambooth_main, hybrid_main
from edgesplit.diffusion.inference.gpu import check_bf16, gpu_memory, out_of_memory
from edgesplit.metrics.cli import main as pai_sweep_main


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


# -- whole commands on a pretended GPU --------------------------------------------------------------------------

pretending = pytest.mark.skipif(
    not hasattr(backend_registration, "_setup_privateuseone_for_python_backend"),
    reason="this torch cannot pretend a GPU",
)
GPU = Path(commands.__file__).with_name("pretended_gpu.py")
TEMPLATE = "a photo of {subject} in snow"


@pytest.fixture
def both(command, tmp_path):
    """Run a command on the CPU and on the pretended GPU, into the folders cpu and gpu; what the GPU counted."""

    def run(main, name, *arguments):
        for kind in ("cpu", "gpu"):
            shutil.rmtree(tmp_path / kind, ignore_errors=True)
        code, _, talk = command(main, *arguments, "--device", "cpu", "-o", tmp_path / "cpu")
        assert code == 0, talk
        on_gpu = commands.run(sys.executable, GPU, name, *arguments, "-o", tmp_path / "gpu", timeout=300)
        assert on_gpu.returncode == 0, on_gpu.stderr
        counts = json.loads(on_gpu.stderr.splitlines()[-1])
        assert counts["tensors"] > 1000
        return counts

    return run


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    return save_finished_cohort(tmp_path_factory.mktemp("finished") / "cohort")


@pretending
def test_hybrid_makes_the_same_pictures_on_a_gpu_and_no_step_waits_for_the_host(both, cohort, tmp_path):
    options = ("--cohort", cohort, "--prompt", TEMPLATE, "--local-steps", "anna=1,ben=3,cleo=0")
    few, more = (both(hybrid_main, "hybrid", *options, "--steps", n)["crossings"] for n in (4, 9))
    assert few == more  # the batch at the edge shrinks as often
    cpu, gpu = (np.asarray(Image.open(tmp_path / kind / "grid.png"), int) for kind in ("cpu", "gpu"))
    assert np.abs(cpu - gpu).max() <= 1


@pretending
def test_a_sweep_measures_the_same_on_a_gpu(both, cohort, tmp_path):
    (tmp_path / "prompts.txt").write_text(f"{TEMPLATE}\na photo of {{subject}} at night\n")
    options = ("--prompts", tmp_path / "prompts.txt", "--steps", 4, "--splits", "0,2,4", "--seeds", 1, "--kappa", 1)
    both(pai_sweep_main, "pai-sweep", "--cohort", cohort, "--batch", 4, *options)
    cpu, gpu = (pd.read_parquet(tmp_path / kind / "measurements.parquet") for kind in ("cpu", "gpu"))
    pd.testing.assert_frame_equal(cpu, gpu, check_exact=False, rtol=0, atol=1e-3)


@pretending
@pytest.mark.parametrize(
    "training", [{"average": 0.5, "text_encoder_learning_rate": 1e-4}, {"method": "lora", "rank": 2}]
)
def test_dreambooth_trains_the_same_on_a_gpu(both, tmp_path, training):
    both(dreambooth_main, "dreambooth", save_cohort(tmp_path, **training))
    for name in ("cluster", "users/anna", "users/ben"):
        cpu, gpu = (json.loads((tmp_path / kind / name / "gate.json").read_text()) for kind in ("cpu", "gpu"))
        assert gpu["after"] == pytest.approx(cpu["after"], abs=0.01)
