"""The measurement against plain hybrid inference, picture by picture; its work counted."""

import io
import warnings
from collections import Counter
from copy import deepcopy
from dataclasses import replace

import pytest
import torch
from models import as_model, make_pipeline, toy_clip
from PIL import Image
from sweeps import SETTINGS, USERS, pairwise
from torchvision.transforms.functional import to_tensor

from edgesplit.common.errors import InputError
from edgesplit.diffusion.inference.hybrid import Request, edge_prefix, finish_local
from edgesplit.diffusion.inference.models import weights_digest
from edgesplit.metrics import sweep
from edgesplit.metrics.clip import load_clip, similarity
from edgesplit.metrics.lpips import load_lpips
from edgesplit.metrics.pai import lpips_bar
from edgesplit.metrics.prompts import described
from edgesplit.metrics.settings import BLOCK, chunks
from edgesplit.metrics.sweep import SweepModels, automatic_batch


@pytest.fixture(scope="module")
def parts():
    """Four models; ben's decoder is another one than the rest have."""
    pipelines = [make_pipeline(seed=seed) for seed in range(4)]
    for pipeline in (pipelines[1], pipelines[3]):
        pipeline.vae = pipelines[0].vae
    edge, *personal = (as_model(p, "dog" if i == 0 else "sks dog", f"m{i}") for i, p in enumerate(pipelines))
    return edge, dict(zip(USERS, personal, strict=True)), load_clip(toy_clip()), load_lpips("toyworld")


def make_models(parts, count=lambda _: None, **changes):
    edge, personal, clip, lpips = parts
    decoders = {name: weights_digest(model.vae) for name, model in personal.items()}
    return SweepModels(replace(SETTINGS, **changes), edge, personal, clip, lpips, decoders, count)


def measured(models):
    rows = [row for block in models.settings.blocks for row in models.measure(block)]
    return {(row.prompt, row.seed, row.local_steps, row.user): row for row in rows}


@pytest.fixture(scope="module")
def rows(parts):
    return measured(make_models(parts))


@pytest.mark.parametrize("scheduler", ["ddim", "ddpm"])
def test_every_row_is_what_plain_hybrid_inference_and_plain_metrics_give(parts, scheduler):
    edge, personal, clip, lpips = parts
    rows = measured(make_models(parts, scheduler=scheduler))
    sampling = replace(SETTINGS, scheduler=scheduler).sampling
    assert len(rows) == len(SETTINGS.groups) * SETTINGS.group_pictures
    for p, template in enumerate(SETTINGS.templates):
        for split in SETTINGS.splits:
            request = Request(prompt_template=template, local_steps=split, seed=1)
            (handoff,) = edge_prefix(edge, [request], sampling)
            pictures = torch.cat([m.decode(finish_local(m, handoff, sampling)) for m in personal.values()])
            far = pairwise(lpips, pictures)  # anna-ben, anna-cleo, ben-cleo
            mean = torch.stack([far[0] + far[1], far[0] + far[2], far[1] + far[2]]) / 2
            texts = [described(template, SETTINGS.descriptions[name]) for name in USERS]
            near = similarity(clip.image_features(pictures), clip.text_features(texts))
            for u, name in enumerate(USERS):
                row = rows[p, 1, split, name]
                assert row.clip == pytest.approx(float(near[u]), abs=1e-4)
                assert row.lpips == pytest.approx(float(mean[u]), abs=1e-4)


def test_the_mean_over_users_is_lpips_bar(parts, rows):
    *_, lpips = parts
    of_users = [rows[0, 0, 4, name] for name in USERS]
    pictures = torch.stack([to_tensor(Image.open(io.BytesIO(row.png))) for row in of_users])
    pairs = pairwise(lpips, pictures)
    assert pairs.min() > 0.01
    rounding = 1e-3  # of the PNGs
    assert lpips_bar([row.lpips for row in of_users]) == pytest.approx(float(pairs.mean()), abs=rounding)


def test_at_n_0_users_with_one_decoder_have_one_picture(rows):
    assert rows[0, 0, 0, "anna"].png == rows[0, 0, 0, "cleo"].png != rows[0, 0, 0, "ben"].png


def test_with_one_decoder_for_all_lpips_bar_is_exactly_0_at_n_0(parts):
    edge, personal, *metrics = parts
    shared = {name: replace(model, vae=edge.vae) for name, model in personal.items()}
    rows = measured(make_models((edge, shared, *metrics), templates=SETTINGS.templates[:1], seeds=1))
    assert {row.lpips for key, row in rows.items() if key[2] == 0} == {0.0}
    assert len({row.clip for key, row in rows.items() if key[2] == 0}) == 3  # of one picture and three descriptions


@pytest.mark.parametrize("splits", [[0, 2, 4, 7], [3, 5, 6], [0, 1, 2, 3, 4, 5, 6, 7]])
@pytest.mark.parametrize("batch", [1, 6, 64])
def test_the_work_is_what_the_paper_s_split_allows_and_no_batch_is_too_large(parts, monkeypatch, splits, batch):
    monkeypatch.setattr(SweepModels, "_decode", lambda *_, **__: None)
    monkeypatch.setattr(SweepModels, "_judge", lambda *_: ())
    steps = []
    models = make_models(parts, steps.append, splits=splits, batch=batch, templates=SETTINGS.templates[:1])
    for block in models.settings.blocks:
        models.measure(block)
    per_group = 7 - min(splits) + 3 * sum(splits)
    assert sum(steps) == per_group * len(models.settings.groups) == models.settings.group_steps * 2
    assert max(steps) <= batch


@pytest.mark.parametrize("batch", [1, 3, 64])
def test_results_do_not_depend_on_the_batch(parts, rows, batch):
    others = measured(make_models(parts, batch=batch, seeds=1))
    assert others.keys() == {(prompt, seed, n, user) for prompt, seed, n, user in rows if seed == 0}
    for key, row in others.items():
        assert (row.clip, row.lpips) == pytest.approx((rows[key].clip, rows[key].lpips), abs=1e-4)


@pytest.mark.parametrize("batch", [1, 2, 3, 5, 9, 100])
def test_blocks_hold_every_group_once_in_order(batch):
    settings = replace(SETTINGS, batch=batch)
    groups = [group for block in settings.blocks for group in block]
    assert groups == settings.groups
    assert set(Counter(groups).values()) == {1}


def test_chunks_lose_nothing():
    assert chunks(range(7), 3) == [[0, 1, 2], [3, 4, 5], [6]]


def test_a_block_is_bounded_however_large_the_batch():
    settings = replace(SETTINGS, batch=4096, seeds=1000)
    assert max(map(len, settings.blocks)) * 3 <= BLOCK  # three local splits


def memory_for(limit, rows=lambda *_: []):
    """`SweepModels.rows` on a GPU whose memory holds this many pictures."""

    def measured(self, block):
        if self.settings.batch > limit:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 GiB")
        return rows(self, block)

    return measured


@pytest.mark.parametrize(("limit", "expected"), [(1, 1), (10, 8), (79, 63), (4096, BLOCK)])
def test_the_automatic_batch_leaves_headroom(parts, monkeypatch, limit, expected):
    monkeypatch.setattr(sweep, "free_memory", lambda: None)
    monkeypatch.setattr(SweepModels, "rows", memory_for(limit))
    assert automatic_batch(make_models(parts)) == expected


def test_the_automatic_batch_is_tried_with_all_models(parts, monkeypatch):
    monkeypatch.setattr(SweepModels, "rows", memory_for(3, SweepModels.rows))
    steps = []
    automatic_batch(make_models(parts, steps.append))
    assert Counter(steps) == {batch: 1 + len(USERS) for batch in (1, 2, 3)}


def test_a_gpu_that_holds_no_picture_is_refused(parts, monkeypatch):
    monkeypatch.setattr(SweepModels, "rows", memory_for(0))
    with pytest.raises(InputError, match="--batch: not even one picture fits"):
        automatic_batch(make_models(parts))


def test_memory_that_runs_out_in_a_sweep_is_one_line_with_the_remedy(parts, monkeypatch):
    monkeypatch.setattr(SweepModels, "rows", memory_for(3))
    with pytest.raises(InputError, match=r"memory does not hold passes of 6 pictures; .*smaller --batch"):
        make_models(parts).measure(SETTINGS.groups[:1])


def harmed(module):
    """A copy of a network whose last weights are NaN."""
    copy = deepcopy(module)
    with torch.no_grad():
        list(copy.parameters())[-1].fill_(torch.nan)
    return copy


def refusal(parts, **changes):
    with pytest.raises(InputError) as caught:
        make_models(parts, **changes).measure(SETTINGS.groups[:1])
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_latents_that_are_not_finite_stop_the_sweep_with_user_split_prompt_and_seed(parts):
    edge, personal, *metrics = parts
    ben = personal | {"ben": replace(personal["ben"], unet=harmed(personal["ben"].unet))}
    place = "prompt 'a photo of {subject} in snow', seed 0: m"
    assert refusal((edge, ben, *metrics)).startswith(f"user 'ben', n = 2, {place}2: step 2")  # all of the pass are so
    assert refusal((edge, ben, *metrics), splits=[0, 4, 7]).startswith(f"user 'ben', n = 4, {place}2: step 4")
    broken = replace(edge, unet=harmed(edge.unet))
    assert refusal((broken, personal, *metrics)).startswith(f"the cluster-wide model, {place}")


def test_a_picture_that_is_not_finite_stops_the_sweep_with_user_split_prompt_and_seed(parts):
    edge, personal, *metrics = parts
    ben = personal | {"ben": replace(personal["ben"], vae=harmed(personal["ben"].vae))}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        line = refusal((edge, ben, *metrics))
    place = "user 'ben', n = 0, prompt 'a photo of {subject} in snow', seed 0"
    assert line == f"{place}: m2: its vae made a picture that is not finite; its weights are damaged"
    assert "n = 2" in refusal((edge, ben, *metrics), splits=[2, 4, 7])


@pytest.mark.parametrize("metric", ["CLIP", "LPIPS"])
def test_a_metric_that_is_not_finite_stops_the_sweep(parts, monkeypatch, metric):
    if metric == "CLIP":
        monkeypatch.setattr(sweep, "similarity", lambda seen, texts: torch.full((len(seen),), torch.nan))
    else:
        monkeypatch.setattr(SweepModels, "_distances", lambda *_: torch.full((3, 1), torch.inf))
    assert refusal(parts).startswith("user 'anna', n = 0, prompt 'a photo of {subject} in snow', seed 0: " + metric)


def test_threads_are_chosen_by_a_step_of_the_cluster_wide_model(parts, monkeypatch):
    steps, edge = [], parts[0]

    def chosen(step, command):
        step()
        return 3

    monkeypatch.setattr(sweep, "fastest_threads", chosen)
    monkeypatch.setattr(type(edge.unet), "forward", counted(type(edge.unet).forward, steps))
    assert sweep.fastest_cpu_threads(make_models(parts)) == 3
    assert steps == [2 * (sweep.TRIAL_PIXELS // edge.latent_shape[1] ** 2)]  # with guidance


def counted(forward, sizes):
    def counting(self, x, *rest, **options):
        sizes.append(len(x))
        return forward(self, x, *rest, **options)

    return counting
