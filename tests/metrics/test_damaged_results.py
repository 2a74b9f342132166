"""Attacks on the database of a sweep: no value changes in silence, and what is intact is kept."""

import sqlite3
from contextlib import closing
from dataclasses import replace

import numpy as np
import pytest
from damage import damaged
from sweeps import SETTINGS

from edgesplit.common.database import DATABASE
from edgesplit.common.errors import InputError
from edgesplit.metrics.store import TABLE, Store, settings_in
from edgesplit.metrics.sweep import MeasuredPicture

GROUPS = 30
SMALL = replace(SETTINGS, splits=[0, 3, 7], users={"anna": "a", "ben": "b"}, templates=["{subject}"], seeds=GROUPS)
OLD = """
CREATE TABLE settings (value TEXT NOT NULL);
CREATE TABLE measurements (
    prompt INTEGER, seed INTEGER, local_steps INTEGER, user TEXT, clip REAL, lpips REAL, picture TEXT, crc32 INTEGER,
    PRIMARY KEY (prompt, seed, local_steps, user)
);
"""
"""The tables of a version without digests."""


def group_rows(seed):
    scores = np.random.default_rng(seed).random((len(SMALL.splits), 2, 2))
    return [
        MeasuredPicture(
            prompt=0, seed=seed, local_steps=n, user=user, clip=scores[i, j, 0], lpips=scores[i, j, 1], png=b"p" * n
        )
        for i, n in enumerate(SMALL.splits)
        for j, user in enumerate(SMALL.users)
    ]


def rows_of(store):
    """The rows by their keys."""
    columns = store.table()
    return {row[:4]: row for row in zip(*columns.values(), strict=True)}


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    """The rows of a sweep, and its files: closed, and as a kill leaves them, with a write-ahead log."""
    store = Store(tmp_path_factory.mktemp("sweep"), SMALL)
    for seed in range(GROUPS):
        store.add(group_rows(seed))
    killed = {kind: (store.folder / f"{DATABASE}{kind}").read_bytes() for kind in ("", "-wal")}
    rows = rows_of(store)
    store.close()
    return rows, [{"": (store.folder / DATABASE).read_bytes()}, killed]


def attack(swept, folder, capsys, seed):
    """Damage a database and open it; returns the number of rows that are there then, None where it is refused."""
    rows, states = swept
    rng = np.random.default_rng(seed)
    folder.mkdir(exist_ok=True)
    for old in folder.glob(f"*{DATABASE}*"):
        old.unlink()
    files = dict(states[rng.random() < 0.25])
    victim = rng.choice(list(files))
    files[victim] = damaged(files[victim], rng)
    for kind, content in files.items():
        (folder / f"{DATABASE}{kind}").write_bytes(content)
    capsys.readouterr()
    try:
        settings_in(folder)
        with closing(Store(folder, SMALL)) as store:
            found = {tuple(row)[:4]: tuple(row) for row in store._results.rows()}
    except InputError as error:
        assert "--fresh" in str(error)
        assert "\n" not in str(error)
        return None
    said = capsys.readouterr().err
    assert found.items() <= rows.items()  # no value has changed
    assert said.count("\n") <= 1
    if said:
        assert f"{DATABASE} was damaged: {len(found):,} intact row" in said
    elif len(files) == 1:  # a damaged log ends where its own digests say, as after a kill
        assert len(found) in (len(rows), 0 if not files[""] else len(rows))
    with closing(Store(folder, SMALL)):  # and is now in order
        assert not capsys.readouterr().err
    return len(found)


def attacks(swept, folder, capsys, seeds):
    return [attack(swept, folder, capsys, seed) for seed in seeds]


def test_no_damage_changes_a_value_and_what_is_intact_is_kept(swept, tmp_path, capsys):
    kept = attacks(swept, tmp_path, capsys, range(60))
    assert sum(count is not None for count in kept) > 40
    assert sum(count is not None and 0 < count < GROUPS * 6 for count in kept) > 10


@pytest.mark.slow
def test_no_damage_of_many_changes_a_value(swept, tmp_path, capsys):
    kept = attacks(swept, tmp_path, capsys, range(1000, 2500))
    whole, refused = kept.count(GROUPS * 6), kept.count(None)
    with capsys.disabled():
        print(f"\n{len(kept)} attacks: 0 values changed, {whole} kept all rows, {refused} had no intact row")


@pytest.mark.parametrize("page", range(1, 9))
def test_one_lost_page_costs_its_own_rows_alone(swept, tmp_path, capsys, page):
    rows, (files, _) = swept
    content = bytearray(files[""])
    assert len(content) == 8 * 4096
    content[(page - 1) * 4096 : page * 4096] = bytes(4096)
    (tmp_path / DATABASE).write_bytes(content)
    with closing(Store(tmp_path, SMALL)) as store:
        assert len(rows) / 2 < len(rows_of(store)) <= len(rows)
        missing = {seed for _, seed in store.missing(SMALL.groups)}
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "the others are made again" in said
    assert len(missing) == GROUPS  # as there are no pictures here
    assert (tmp_path / f"{DATABASE}.damaged").read_bytes() == bytes(content)


def test_a_value_changed_by_hand_is_measured_again(tmp_path, capsys):
    with closing(Store(tmp_path, SMALL)) as store:
        store.add(group_rows(0) + group_rows(1))
    with closing(sqlite3.connect(tmp_path / DATABASE)) as database, database:
        database.execute("UPDATE measurements SET clip = 0.75 WHERE seed = 1 AND local_steps = 3 AND user = 'ben'")
    with closing(Store(tmp_path, SMALL)) as store:
        assert (0, 1) in store.missing(SMALL.groups)
        assert (0, 0) not in store.missing(SMALL.groups)
    assert "was damaged: 11 intact rows kept" in capsys.readouterr().err


def test_results_of_a_version_without_digests_are_taken_over(tmp_path, capsys):
    with closing(Store(tmp_path, SMALL)) as store:
        store.add(group_rows(0))
        rows = rows_of(store)
    with closing(sqlite3.connect(tmp_path / DATABASE)) as database, database:
        (settings,) = database.execute("SELECT value FROM settings").fetchone()
        database.executescript(f"DROP TABLE settings; DROP TABLE measurements; {OLD}")
        database.execute("INSERT INTO settings VALUES (?)", [settings])
        database.executemany("INSERT INTO measurements VALUES (?, ?, ?, ?, ?, ?, ?, ?)", rows.values())
    assert settings_in(tmp_path)["--batch"] == SMALL.batch
    with closing(Store(tmp_path, SMALL)) as store:
        assert rows_of(store) == rows
    assert capsys.readouterr().err == ""
    with closing(sqlite3.connect(tmp_path / DATABASE)) as database:
        assert [column[1] for column in database.execute("PRAGMA table_info(measurements)")] == [
            *TABLE.columns,
            "digest",
        ]


def test_rows_of_other_settings_are_never_taken_over(swept, tmp_path):
    """Where the settings are lost, the rows themselves tell whose they are."""
    _, (files, _) = swept
    content = bytearray(files[""])
    content[4096:8192] = bytes(4096)
    (tmp_path / DATABASE).write_bytes(content)
    with pytest.raises(InputError, match=r"damaged \(no row of it is intact\); --fresh"):
        Store(tmp_path, replace(SMALL, guidance_scale=9.0))
