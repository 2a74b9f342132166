"""The sweep's folder: what is there, what must be done again, what is refused."""

import shutil
import sqlite3
from dataclasses import replace

import pytest
from sweeps import SETTINGS

from edgesplit.common.database import move_aside
from edgesplit.common.errors import InputError
from edgesplit.metrics.store import DATABASE, Store, stored_batch
from edgesplit.metrics.sweep import Measurement

SMALL = replace(SETTINGS, splits=[0, 3, 7], users={"anna": "a", "ben": "b"}, templates=["{subject}"], seeds=3)


def cluster_rows(prompt, seed):
    return [
        Measurement(prompt=prompt, seed=seed, local_steps=n, user=user, clip=0.5, lpips=0.1, png=b"picture" * (n + 1))
        for n in SMALL.splits
        for user in SMALL.users
    ]


@pytest.fixture
def store(tmp_path):
    store = Store(tmp_path / "sweep", SMALL)
    yield store
    store.close()


def test_what_was_added_is_not_missing_and_stands_in_order(store):
    store.add(cluster_rows(0, 2) + cluster_rows(0, 0))
    assert store.missing(SMALL.clusters) == [(0, 1)]
    table = store.table()
    keys = list(zip(table["seed"], table["local_steps"], table["user"], strict=True))
    assert keys == [(seed, n, user) for seed in (0, 2) for n in (0, 3, 7) for user in ("anna", "ben")]
    assert (store.folder / table["picture"][0]).read_bytes() == b"picture"


@pytest.mark.parametrize("harm", ["unlink", "truncate"])
def test_a_picture_that_is_gone_or_cut_is_done_again(store, harm):
    store.add(cluster_rows(0, 0) + cluster_rows(0, 1) + cluster_rows(0, 2))
    picture = store.folder / store.table()["picture"][8]
    picture.unlink() if harm == "unlink" else picture.write_bytes(b"p")
    assert store.missing(SMALL.clusters) == [(0, 1)]
    store.add(cluster_rows(0, 1))
    assert store.missing(SMALL.clusters) == []


def test_a_cluster_without_all_its_rows_is_done_again(store):
    store.add(cluster_rows(0, 1)[:-1])
    assert store.missing(SMALL.clusters) == SMALL.clusters


def test_results_outlive_the_process(store):
    store.add(cluster_rows(0, 0))
    store.close()
    again = Store(store.folder, SMALL)
    assert again.missing(SMALL.clusters) == [(0, 1), (0, 2)]
    again.close()
    assert stored_batch(store.folder) == SMALL.batch


def test_other_settings_are_refused_with_the_difference(store):
    store.close()
    with pytest.raises(InputError, match=r"users.ben was 'b' and is 'c', seeds was 3 and is 4;.*--fresh") as caught:
        Store(store.folder, replace(SMALL, seeds=4, users={"anna": "a", "ben": "c"}))
    assert "guidance" not in str(caught.value)


def test_two_processes_do_not_mix(store):
    store.add(cluster_rows(0, 0))
    with pytest.raises(InputError, match="another pai-sweep is at work here"):
        Store(store.folder, SMALL)


def test_a_damaged_database_is_refused(store):
    store.close()
    (store.folder / DATABASE).write_bytes(b"no database" * 500)
    with pytest.raises(InputError, match=r"results.sqlite: damaged .*--fresh"):
        Store(store.folder, SMALL)


def test_a_full_disk_keeps_what_was_there(store, monkeypatch):
    store.add(cluster_rows(0, 0))

    def full(*_):
        raise sqlite3.OperationalError("database or disk is full")

    class Full:
        def __getattr__(self, name):
            return full

        def __enter__(self):
            return self

        def __exit__(self, *_):
            return False

    monkeypatch.setattr(store, "_database", Full())
    with pytest.raises(InputError, match="disk is full; free some space"):
        store.add(cluster_rows(0, 1))


def test_fresh_moves_the_old_folder_aside(store, capsys):
    store.close()
    move_aside(store.folder, "pai-sweep")
    (aside,) = store.folder.parent.glob("sweep.*")
    assert (aside / DATABASE).exists()
    assert not store.folder.exists()
    move_aside(store.folder, "pai-sweep")  # nothing there: nothing to do
    shutil.rmtree(aside)
