"""The sweep on a local Ray cluster, with a worker killed in the run, against the local engine."""

import os
import signal
from dataclasses import replace

import pytest
import torch
from models import save_finished_cohort
from sweeps import SETTINGS, USERS

from edgesplit.common.errors import InputError
from edgesplit.metrics import engines

pytest.importorskip("ray")


@pytest.fixture(scope="module")
def settings(tmp_path_factory):
    folder = save_finished_cohort(tmp_path_factory.mktemp("ray") / "cohort")
    users = {name: str(folder / "users" / name) for name in USERS}
    return replace(SETTINGS, cluster=str(folder / "cluster"), users=users)


@pytest.fixture(scope="module")
def cluster():
    import ray

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, configure_logging=False)
    yield ray
    ray.shutdown()
    torch.set_num_threads(threads)


def by_key(measured):
    return {(m.prompt, m.seed, m.local_steps, m.user): m for block in measured for m in block}


def test_rows_equal_the_local_engine_s_though_a_worker_dies(settings, cluster, monkeypatch):
    expected = by_key(engines.local_engine("cpu")(settings, settings.blocks, lambda _: None))
    started = []
    start = engines.start_workers
    monkeypatch.setattr(engines, "start_workers", lambda *a: started.extend(start(*a)) or list(started))
    steps, found = [], []
    for block in engines.ray_engine("cpu", 2)(settings, settings.blocks, steps.append):
        if not found:
            os.kill(cluster.get(started[0].process.remote()), signal.SIGKILL)
        found.append(block)
    assert len(started) == 2
    assert by_key(found) == expected
    assert sum(steps) == settings.cluster_steps * len(settings.clusters)


def test_an_error_of_a_worker_is_one_line(settings, cluster):
    wrong = replace(settings, users=settings.users | {"ben": "/no/model"})
    with pytest.raises(InputError, match="/no/model: no such folder") as caught:
        list(engines.ray_engine("cpu", 1)(wrong, wrong.blocks, lambda _: None))
    assert "\n" not in str(caught.value)
