"""The sources of published step latencies, by the name that `data/published/` has for them."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Source:
    """One published table: where it stands, its date, and the dtype and backend of the rows that are taken from it.

    Attributes:
        care: what one should know of its numbers, one sentence each.
    """

    title: str
    date: str
    dtype: Literal["fp16", "bf16"] = "fp16"
    backend: str = ""
    care: tuple[str, ...] = ()


PREFERENCE = {
    "S2": Source(
        "huggingface/diffusers docs/source/en/optimization/torch2.0.md: loop iterations/s, SD1.5",
        "2023",
        backend="diffusers torch2.0 eager",
    ),
    "S4": Source(
        "microsoft/onnxruntime onnxruntime/python/tools/transformers/models/stable_diffusion/README.md: "
        "end-to-end seconds / 50 steps, SD1.5",
        "2023",
        backend="torch2.0",
    ),
    "S3": Source("LambdaLabsML/lambda-diffusers benchmarks/*.csv: end-to-end seconds / 31 UNet calls, SD1.4", "2023"),
    "S1": Source(
        "vladmandic/sd-data pages/benchmark-data.json: medians over community records, whole-image time / steps",
        "2023-08",
    ),
    "S1-single": Source(
        "vladmandic/sd-data input/benchmark-raw-2025-*.json: one record, whole-image time / steps",
        "2025",
        dtype="bf16",
    ),
}
"""The sources of `step_latency.csv`, the one that is preferred first."""

DECODE_INSIDE = "image decoding is inside the published times"
FURTHER = {
    "E1": Source(
        "ml-energy/leaderboard data/diffusion/text-to-image/A100-SXM4-40GB (older commits): "
        "(seconds of 50 steps - seconds of 30 steps) / 20",
        "2024",
    ),
    "E2": Source(
        "ml-energy/leaderboard data/diffusion/text-to-image, H100: what one step more takes, as in E1",
        "2025",
    ),
    "E3": Source(
        "qizhengyang98/DiffServe profiling/*.csv: seconds of 50 steps / 50",
        "2024",
        care=(DECODE_INSIDE, "which A100 with 80 GB it was is not named"),
    ),
    "E4": Source(
        "fal-ai/stable-diffusion-benchmarks README.md: end-to-end seconds / 50 steps", "2023", care=(DECODE_INSIDE,)
    ),
    "E5": Source("alexeigor/sd-benchmarks README.md: end-to-end seconds / 50 steps", "2023", care=(DECODE_INSIDE,)),
    "E6": Source("chengzeyi/stable-fast README.md: iterations/s of vanilla diffusers", "2023"),
    "E7": Source(
        "apple/ml-stable-diffusion README.md: iterations/s with guidance",
        "2023",
        care=("issue 243 of the same repository sees about 20 % slower steps",),
    ),
    "E8": Source(
        "quic/ai-hub-models, SD1.5 w8a16: seconds of one call of the UNet x 2",
        "2025",
        care=(
            "the published time is of one call of the UNet; that guidance takes two is inferred",
            "an NPU with weights of 8 bits and activations of 16: it makes other pictures than fp16 does",
        ),
    ),
    "E9": Source("sgl-project/sglang pull request 22183", "2026"),
}
"""The sources of `more_step_latency.csv`."""

DECODE = {"D1": "huggingface/diffusers docs/source/en/hybrid_inference/vae_decode.md: SD v1.5, one picture of 512x512"}
"""The sources of `decode.csv`."""
