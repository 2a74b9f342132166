"""`edgesplit cluster` from photos or vectors to cohorts that `dreambooth` reads and users that `plan` reads."""

import json
import subprocess
import sys

import numpy as np
import pytest
from commands import call_root, refused

from edgesplit.clusters.example import KINDS, USERS, kind_of
from edgesplit.diffusion.train.cohort import read_cohort
from edgesplit.diffusion.train.photos import read_photos
from edgesplit.optimizer.inputs.scenario import load_scenario
from edgesplit.optimizer.inputs.users import read_users


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    """The example, clustered: its folder, and what the command printed."""
    folder = tmp_path_factory.mktemp("toy")
    assert call_root("cluster", "--example", folder).returncode == 0
    done = call_root("cluster", "--photos", folder / "cohort.toml", "--device", "cpu", "-o", folder / "clusters")
    assert done.returncode == 0, done.stderr
    return folder, done


@pytest.fixture
def vectors(tmp_path):
    """A table of eight users of two kinds."""
    rng = np.random.default_rng(0)
    values = np.repeat(np.eye(2), 4, axis=0) + 0.05 * rng.standard_normal((8, 2))
    path = tmp_path / "vectors.csv"
    rows = [f"u{number},{x!r},{y!r}" for number, (x, y) in enumerate(values.tolist())]
    path.write_text("\n".join(["user_id,x,y", *rows]) + "\n")
    return path


def test_two_kinds_of_toy_dogs_are_told_apart(toy):
    folder, done = toy
    found = json.loads((folder / "clusters/clusters.json").read_text())
    cluster_of = {user["user_id"]: user["cluster"] for user in found["users"]}
    assert found["proposed"] == len(KINDS) == 2
    groups = [{user for user in USERS if kind_of(user) == kind} for kind in range(2)]
    assert sorted(map(sorted, groups)) == sorted(
        sorted(user for user in USERS if cluster_of[user] == name) for name in ("dog-1", "dog-2")
    )
    assert max(map(len, done.stdout.splitlines())) <= 80
    assert done.stdout.count("<- proposed") == 1


def test_dreambooth_reads_the_cohort_of_each_cluster(toy):
    folder, _ = toy
    users = []
    for number in (1, 2):
        file = read_cohort(folder / f"clusters/dog-{number}.toml")
        users += [user.name for user in file.cohort.users]
        assert file.base_reference == read_cohort(folder / "cohort.toml").base_reference
        assert file.cohort.training == read_cohort(folder / "cohort.toml").cohort.training
        for user in file.cohort.users:
            assert read_photos(file.folder / user.photos, 48, file.cohort.words).images.shape == (9, 3, 48, 48)
    assert sorted(users) == sorted(USERS)


def test_kept_vectors_give_the_same_clusters_without_the_photos(toy):
    folder, _ = toy
    kept = folder / "clusters/vectors.parquet"
    again = json.loads(call_root("cluster", "--photos", folder / "cohort.toml", "--vectors", kept, "--json").stdout)
    before = json.loads((folder / "clusters/clusters.json").read_text())
    assert [user["cluster"] for user in again["users"]] == [user["cluster"] for user in before["users"]]
    assert again["chance_silhouette"] == before["chance_silhouette"]


def test_users_who_do_not_share_stay_unshared(toy, tmp_path):
    folder, _ = toy
    text = (folder / "cohort.toml").read_text().replace('photos = "', f'photos = "{folder}/')
    own, kept = tmp_path / "own.toml", folder / "clusters/vectors.parquet"
    own.write_text(text.replace("[[users]]", '[cluster]\nshared = ["ada", "bea"]\n\n[[users]]', 1))
    done = call_root("cluster", "--photos", own, "--vectors", kept, "-o", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    shared = [read_cohort(tmp_path / f"out/dog-{number}.toml").cohort.cluster.shared for number in (1, 2)]
    assert sorted(shared) == [["ada"], ["bea"]]
    own.write_text(text.replace("[[users]]", '[cluster]\nshared = ["ada"]\n\n[[users]]', 1))
    line = refused(call_root("cluster", "--photos", own, "--vectors", kept, "-o", tmp_path / "other"))
    assert "found none of bea, dana" in line
    assert not (tmp_path / "other").exists()


def test_a_folder_of_folders_serves_and_names_the_base(toy, tmp_path):
    folder, _ = toy
    options = ("--photos", folder / "photos", "--vectors", folder / "clusters/vectors.parquet", "-o", tmp_path / "out")
    assert "--class-word: missing" in refused(call_root("cluster", *options))
    assert call_root("cluster", *options, "--class-word", "dog", "--base", "toyworld").returncode == 0
    file = read_cohort(tmp_path / "out/dog-1.toml")
    assert (file.cohort.base, file.cohort.class_word) == ("toyworld", "dog")
    assert (file.folder / file.cohort.users[0].photos).is_dir()


def test_a_user_without_photos_is_refused(toy, tmp_path):
    (tmp_path / "photos/nobody").mkdir(parents=True)
    line = refused(call_root("cluster", "--photos", tmp_path / "photos", "--base", "toyworld", "--device", "cpu"))
    assert "nobody: found no pictures" in line


def test_the_users_file_is_filled_in_and_plan_reads_it(vectors, tmp_path):
    own = "".join(f"u{n};0,5;0,25\n" for n in range(7)) + "stranger;0,5;0,25\n"
    (tmp_path / "users.csv").write_text("user_id;step_latency_s;emphasis\n" + own)
    done = call_root("cluster", "--vectors", vectors, "--users", tmp_path / "users.csv", "-o", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert "1 user of the subjects not in --users, such as 'u7'" in done.stderr
    users = read_users(tmp_path / "out/users.csv", load_scenario())
    assert list(users.user_id) == [*(f"u{n}" for n in range(7)), "stranger"]
    assert users.step_latency_s.tolist() == [0.5] * 8
    rows = (tmp_path / "out/users.csv").read_text().splitlines()
    assert [row.rpartition(",")[2] for row in rows[1:]] == ["cluster-1"] * 4 + ["cluster-2"] * 3 + [""]


def test_a_number_of_clusters_that_is_asked_for_is_taken(vectors):
    done = call_root("cluster", "--vectors", vectors, "--clusters", "3")
    assert "cluster-3" in done.stdout
    assert "3 clusters as asked for; 2 would be proposed" in done.stderr


@pytest.mark.parametrize(
    ("table", "options", "says"),
    [
        ("user_id,x\na,1\nb,inf\n", (), "row 2 (line 3), column 'x': found 'inf', accepted: a finite number"),
        ("user_id,x\na,1\nb,nan\n", (), "row 2 (line 3), column 'x': found nothing, accepted: a finite number"),
        ("user_id,x,device\na,1,h200\n", (), "column 'device': found 'h200', accepted: a finite number"),
        ("user_id,x\na,1\na,2\n", (), "has the user_id of row 1, 'a'"),
        ("user_id,x,y\na,0,0\n", (), "zeros have no direction"),
        ("user,x\na,1\n", (), "column 'user_id' is missing"),
        ("user_id\na\n", (), "found no column of numbers"),
        ("user_id,x\n", (), "found no rows below the header"),
        ("user_id,x\na,1\nb,-1\n", ("--clusters", "3"), "--clusters: found 3, accepted: 1 to 2, as there are 2"),
        ("user_id,x\na,1\n", ("--clusters", "0"), "--clusters: found 0"),
        ("user_id,x\na,1\n", ("--max-clusters", "0"), "--max-clusters: found 0"),
        ("user_id,x\na,1\n", ("--clip", "ViT-B-32/openai"), "add --photos"),
        ("user_id,x\na,1\n", ("--users", "users.csv"), "--users: found no -o"),
    ],
)
def test_bad_input_is_one_line(tmp_path, table, options, says):
    (tmp_path / "vectors.csv").write_text(table)
    assert says in refused(call_root("cluster", "--vectors", tmp_path / "vectors.csv", *options))


def test_something_has_to_be_given_and_results_are_not_replaced(vectors, tmp_path):
    assert "found neither" in refused(call_root("cluster"))
    assert call_root("cluster", "--vectors", vectors, "-o", tmp_path / "out").returncode == 0
    assert "is there already" in refused(call_root("cluster", "--vectors", vectors, "-o", tmp_path / "out"))
    (tmp_path / "empty").mkdir()
    assert "found no folders in it" in refused(call_root("cluster", "--photos", tmp_path / "empty"))


@pytest.mark.parametrize("rows", ["a,1\n", "a,1\nb,2\n", "a,1\nb,1\nc,3\n"])
def test_few_or_equal_users_are_one_cluster(tmp_path, rows):
    (tmp_path / "vectors.csv").write_text("user_id,x\n" + rows)
    done = call_root("cluster", "--vectors", tmp_path / "vectors.csv", "-o", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert "1 cluster: too few different users" in done.stdout


def test_importing_the_command_costs_no_library():
    code = "import edgesplit.clusters.cli, sys; print({'torch', 'sklearn', 'numpy'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"
