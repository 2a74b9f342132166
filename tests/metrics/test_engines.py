"""The sweep on a local Ray cluster, with a worker killed in the run, against the local engine."""

import contextlib
import os
import signal
import socket
import threading
import time
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
    return replace(SETTINGS, cluster=str(folder / "cluster"), users=users, batch=3)


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


@pytest.fixture(scope="module")
def expected(settings, cluster):
    local = engines.LocalEngine("cpu")
    return by_key(local.measure(settings, settings.blocks, lambda _: None))


@pytest.mark.parametrize("retries", [engines.RETRIES, pytest.param(0, marks=pytest.mark.slow)])
def test_rows_equal_the_local_engine_s_though_workers_die_measuring(settings, expected, cluster, monkeypatch, retries):
    """Four blocks: at the first result one worker measures its second block and the other its first or second."""
    monkeypatch.setattr(engines, "RETRIES", retries)
    start, pids, blocks, steps = engines.start_workers, [], [], []

    def start_and_note(*a):
        workers = start(*a)
        pids.extend(cluster.get([worker.process.remote() for worker in workers]))
        return workers

    monkeypatch.setattr(engines, "start_workers", start_and_note)

    engine = engines.RayEngine("cpu", 2)

    def measure():
        for block in engine.measure(settings, settings.blocks, steps.append):
            if not blocks:
                for pid in pids:
                    os.kill(pid, signal.SIGKILL)
            blocks.append(block)

    if retries:
        measure()
        assert by_key(blocks) == expected
        assert sum(steps) == settings.group_steps * len(settings.groups)
    else:
        with pytest.raises(InputError, match="a worker died 1 times"):
            measure()
    engine.close()
    assert len(pids) == 2


def test_an_error_of_a_worker_is_one_line_before_anything_is_measured(settings, cluster, monkeypatch):
    class Refusing:
        """A worker that has nothing to import."""

        def __init__(self, kind):
            self.kind = kind

        def load(self, settings):
            raise InputError(f"{settings.users['ben']}: no such folder")

    monkeypatch.setattr(engines, "Worker", Refusing)
    engine = engines.RayEngine("cpu", 1)
    with pytest.raises(InputError, match="/no/model: no such folder") as caught:
        engine.load(replace(settings, users=settings.users | {"ben": "/no/model"}))
    engine.close()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("kind", "threads", "message"),
    [
        ("cpu", 64, "found machines with at most 2 CPUs, accepted: 64 for a worker; OMP_NUM_THREADS"),
        ("cuda", 1, "found machines with at most 0 GPUs, accepted: 1 for a worker; --device cpu"),
    ],
)
def test_workers_that_no_machine_holds_are_refused_not_waited_for(cluster, kind, threads, message):
    with pytest.raises(InputError, match=message):
        engines.start_workers(kind, threads, 4)


def test_the_cluster_not_this_machine_says_whether_there_are_gpus(cluster, monkeypatch):
    assert engines.RayEngine("").kind == "cpu"
    monkeypatch.setattr(cluster, "cluster_resources", lambda: {"CPU": 8.0, "GPU": 4.0})
    assert engines.RayEngine("").kind == "cuda"
    assert engines.RayEngine("cuda:1").kind == "cuda"


@pytest.mark.parametrize("address", ["127.0.0.1:1", "ray://127.0.0.1:1"])
def test_a_cluster_that_does_not_answer_is_refused_in_one_line(monkeypatch, address):
    import ray

    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setenv("RAY_ADDRESS", address)
    with pytest.raises(InputError, match=f"RAY_ADDRESS: found '{address}', where no Ray cluster answers") as caught:
        engines.RayEngine("cpu")
    assert "\n" not in str(caught.value)


def silent(connection):
    time.sleep(30)


def http(connection):
    connection.recv(1000)
    connection.sendall(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")


def closing_at_once(connection):
    pass


def any_bytes(connection):
    connection.sendall(bytes(range(256)) * 40)
    time.sleep(30)


@pytest.fixture
def other_server(request):
    """The address of a server on this machine that is no Ray cluster; it ends with the test."""
    listener = socket.create_server(("127.0.0.1", 0))

    def answer(connection):
        with connection, contextlib.suppress(OSError):
            request.param(connection)

    def serve():
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=answer, args=[listener.accept()[0]], daemon=True).start()

    threading.Thread(target=serve, daemon=True).start()
    yield "{}:{}".format(*listener.getsockname())
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()


@pytest.mark.parametrize("other_server", [silent, http, closing_at_once, any_bytes], indirect=True)
@pytest.mark.parametrize("scheme", ["", pytest.param("ray://", marks=pytest.mark.slow)])
def test_a_server_that_is_not_ray_is_refused_soon(monkeypatch, other_server, scheme):
    import ray

    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", pytest.fail)  # in this process nobody waits for it
    monkeypatch.setattr(engines, "PATIENCE_S", 1)
    monkeypatch.setenv("RAY_ADDRESS", scheme + other_server)
    with pytest.raises(InputError, match="where no Ray cluster answers") as caught:
        engines.RayEngine("cpu")
    assert "\n" not in str(caught.value)


def test_a_cluster_that_answers_is_joined(cluster, monkeypatch):
    engines._probe(cluster.get_runtime_context().gcs_address)
