"""The sweep's folder: what is there, what must be done again, what is refused."""

import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from sweeps import SETTINGS

from edgesplit.common.database import DATABASE, move_aside, open_results
from edgesplit.common.errors import InputError
from edgesplit.common.result_table import ResultTable
from edgesplit.metrics.store import Store, settings_in
from edgesplit.metrics.sweep import MeasuredPicture

SMALL = replace(SETTINGS, splits=[0, 3, 7], users={"anna": "a", "ben": "b"}, templates=["{subject}"], seeds=3)


def group_rows(prompt, seed):
    return [
        MeasuredPicture(
            prompt=prompt, seed=seed, local_steps=n, user=user, clip=0.5, lpips=0.1, png=b"picture" * (n + 1)
        )
        for n in SMALL.splits
        for user in SMALL.users
    ]


@pytest.fixture
def store(tmp_path):
    store = Store(tmp_path / "sweep", SMALL)
    yield store
    store.close()


def test_what_was_added_is_not_missing_and_stands_in_order(store):
    store.add(group_rows(0, 2) + group_rows(0, 0))
    assert store.missing(SMALL.groups) == [(0, 1)]
    table = store.table()
    keys = list(zip(table["seed"], table["local_steps"], table["user"], strict=True))
    assert keys == [(seed, n, user) for seed in (0, 2) for n in (0, 3, 7) for user in ("anna", "ben")]
    assert (store.folder / table["picture"][0]).read_bytes() == b"picture"


HARMS = {"deleted": None, "cut": b"p", "overwritten at its length": b"PICTURE" * 4}


@pytest.mark.parametrize("harm", HARMS)
def test_a_picture_that_is_gone_or_changed_is_done_again(store, harm):
    store.add(group_rows(0, 0) + group_rows(0, 1) + group_rows(0, 2))
    picture = store.folder / store.table()["picture"][8]
    assert picture.read_bytes() == b"picture" * 4
    picture.unlink() if HARMS[harm] is None else picture.write_bytes(HARMS[harm])
    assert store.missing(SMALL.groups) == [(0, 1)]
    store.add(group_rows(0, 1))
    assert store.missing(SMALL.groups) == []


def test_a_group_without_all_its_rows_is_done_again(store):
    store.add(group_rows(0, 1)[:-1])
    assert store.missing(SMALL.groups) == SMALL.groups


def test_results_outlive_the_process(store):
    store.add(group_rows(0, 0))
    store.close()
    again = Store(store.folder, SMALL)
    assert again.missing(SMALL.groups) == [(0, 1), (0, 2)]
    again.close()
    stored = settings_in(store.folder)
    assert (stored["--batch"], stored["threads"]) == (SMALL.batch, SMALL.threads)


def refusal(store, **changes):
    store.add(group_rows(0, 0))
    store.close()
    with pytest.raises(InputError) as caught:
        Store(store.folder, replace(SMALL, **changes))
    return str(caught.value)


def test_other_settings_are_refused_with_the_difference_by_option(store):
    line = refusal(store, seeds=4, guidance_scale=9.0, users={"anna": "a", "ben": "c"})
    assert "--user.ben was 'b' and is 'c', --seeds was 3 and is 4, --guidance was 2.0 and is 9.0;" in line
    assert "--steps" not in line


def test_the_element_of_a_list_that_differs_is_named(store):
    assert "other settings: --splits[1] was 3 and is 4;" in refusal(store, splits=[0, 4, 7])


def test_long_texts_are_shown_where_they_part(store):
    store.settings = long = replace(SMALL, templates=["a photo of {subject} " + "very " * 30 + "far away"])
    store.close()
    again = Store(store.folder, long)
    again.add(group_rows(0, 0))
    again.close()
    with pytest.raises(
        InputError, match=r"--prompts\[0\] was '\.\.\..*away' and is '\.\.\..*near', --prompts\[1\] was not"
    ):
        Store(store.folder, replace(long, templates=[long.templates[0].replace("far away", "near"), "{subject}"]))


def test_settings_with_which_nothing_was_measured_bind_no_later_run(store):
    store.close()
    assert settings_in(store.folder) == {}
    Store(store.folder, replace(SMALL, batch=1)).close()


def test_what_a_killed_process_left_unfinished_is_cleared_away(store):
    store.add(group_rows(0, 0))
    store.close()
    left = [store.folder / "pictures" / "p000-s0000" / ".n0000-anna.png.123.tmp", store.folder / ".fig4a.png.123.tmp"]
    for path in left:
        path.write_bytes(b"half")
    Store(store.folder, SMALL).close()
    assert not any(path.exists() for path in left)


def test_results_of_another_command_are_refused_and_stay(tmp_path):
    path = tmp_path / DATABASE
    table = ResultTable(name="units", columns={"number": "INTEGER"}, key=("number",))
    open_results(path, table, {"cases": 3}, "reproduce").close()
    for use in (
        lambda: Store(tmp_path, SMALL),
        lambda: settings_in(tmp_path),
        lambda: move_aside(tmp_path, "pai-sweep"),
    ):
        with pytest.raises(InputError, match="holds results of another command than pai-sweep"):
            use()
    open_results(path, table, {"cases": 3}, "reproduce").close()


def test_two_processes_do_not_mix(store):
    store.add(group_rows(0, 0))
    for use in (lambda: Store(store.folder, SMALL), lambda: move_aside(store.folder, "pai-sweep")):
        with pytest.raises(InputError, match="another pai-sweep is at work here"):
            use()
    assert (store.folder / DATABASE).exists()


def test_a_damaged_database_is_refused(store):
    store.close()
    (store.folder / DATABASE).write_bytes(b"no database" * 500)
    with pytest.raises(InputError, match=r"results.sqlite: damaged .*--fresh"):
        Store(store.folder, SMALL)


def test_a_full_disk_keeps_what_was_there(store, monkeypatch):
    store.add(group_rows(0, 0))

    def full(*_):
        error = sqlite3.OperationalError("database or disk is full")
        error.sqlite_errorname = "SQLITE_FULL"
        raise error

    class Full:
        def __getattr__(self, name):
            return full

        def __enter__(self):
            return self

        def __exit__(self, *_):
            return False

    monkeypatch.setattr(store._results, "_database", Full())
    with pytest.raises(InputError, match="disk is full; free some space"):
        store.add(group_rows(0, 1))


@pytest.mark.parametrize("damaged", [False, True])
def test_fresh_moves_the_old_folder_aside_whole(store, capsys, damaged):
    store.add(group_rows(0, 0))
    store.close()
    if damaged:
        (store.folder / DATABASE).write_bytes(b"no database" * 500)
    move_aside(store.folder, "pai-sweep")
    (aside,) = store.folder.parent.glob("sweep.*")
    assert not store.folder.exists()
    if not damaged:
        moved = Store(aside, SMALL)
        assert moved.missing(SMALL.groups) == [(0, 1), (0, 2)]
        moved.close()


def test_fresh_moves_nothing_but_results(tmp_path, monkeypatch, store):
    move_aside(tmp_path / "nowhere", "pai-sweep")
    (tmp_path / "photos").mkdir()
    move_aside(tmp_path / "photos", "pai-sweep")
    assert (tmp_path / "photos").exists()
    store.close()
    (store.folder / "inside").mkdir()
    for here in (store.folder, store.folder / "inside"):
        monkeypatch.chdir(here)
        with pytest.raises(InputError, match=r"-o: found .*, which --fresh cannot move while you are in it"):
            move_aside(Path("." if here == store.folder else ".."), "pai-sweep")


def test_a_folder_in_which_no_model_is_the_same_may_be_of_an_older_version(tmp_path):
    """Its fingerprints were of parts of the files; names that are no folders' have been the same ever since."""
    old = replace(SMALL, weights={"cluster": "0" * 16, "users.anna": "1" * 16, "clip": "ViT-L-14/openai"})
    with closing(Store(tmp_path, old)) as store:
        store.add(group_rows(0, 0))
    new = replace(old, weights={"cluster": "2" * 16, "users.anna": "3" * 16, "clip": "ViT-L-14/openai"})
    with pytest.raises(InputError, match=r"if you have changed none, they are of an older edgesplit.* --fresh"):
        Store(tmp_path, new)
    with pytest.raises(InputError, match=r"weights\.cluster was '0000000000000000' and is '2222222222222222'; "):
        Store(tmp_path, replace(old, weights=old.weights | {"cluster": "2" * 16}))
