"""Clusters of users: known kinds are found, one kind stays one, and order, length and copies do not matter."""

import numpy as np
import pytest
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_rand_score, silhouette_score

from edgesplit import InputError, cluster_users
from edgesplit.clusters.grouping import directions, partition


def kinds(count, each=8, width=32, spread=0.4, seed=0):
    """Vectors of users of so many kinds, and each user's kind."""
    rng = np.random.default_rng(seed)
    centres = directions(rng.standard_normal((count, width)))
    own = np.repeat(np.arange(count), each)
    return centres[own] + spread * rng.standard_normal((len(own), width)) / np.sqrt(width), own


def same(first, second):
    return adjusted_rand_score(first, second) == 1


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_known_kinds_are_found(count):
    vectors, own = kinds(count)
    found = cluster_users(vectors)
    assert found.proposed == count
    assert same(found.cluster, own)


def test_one_kind_is_seldom_taken_for_several():
    proposed = [cluster_users(kinds(1, 12, 4, 0.5, seed)[0], max_clusters=3).proposed for seed in range(20)]
    assert sum(number > 1 for number in proposed) <= 4  # 5 % at most: five of twenty have a chance of 0.003


def test_the_order_of_the_users_does_not_matter():
    vectors, _ = kinds(3, spread=1.2)
    shuffled = np.random.default_rng(1).permutation(len(vectors))
    names = [f"u{number:02d}" for number in range(len(vectors))]
    first = cluster_users(vectors, names, clusters=3)
    second = cluster_users(vectors[shuffled], [names[number] for number in shuffled], clusters=3)
    np.testing.assert_array_equal(first.cluster[shuffled], second.cluster)
    assert (first.proposed, first.chance) == (second.proposed, second.chance)


@pytest.mark.parametrize("scale", [1e-200, 3.7, 1e200])
def test_the_length_of_a_vector_does_not_matter(scale):
    vectors, _ = kinds(3, spread=1.2)
    lengths = scale * np.random.default_rng(2).uniform(0.1, 10, (len(vectors), 1))
    first, second = cluster_users(vectors, draws=19), cluster_users(vectors * lengths, draws=19)
    np.testing.assert_array_equal(first.cluster, second.cluster)
    np.testing.assert_allclose(first.silhouette, second.silhouette, atol=1e-9)


@pytest.mark.parametrize("clusters", [2, 3, 5])
def test_copies_of_a_user_are_together(clusters):
    vectors, _ = kinds(2, spread=1.5)
    found = cluster_users(np.repeat(vectors, 3, axis=0), clusters=clusters, draws=19)
    assert all(len(set(found.cluster[start : start + 3])) == 1 for start in range(0, len(found.cluster), 3))


@pytest.mark.parametrize("seed", range(5))
def test_partitions_are_as_good_as_many_starts_of_k_means(seed):
    vectors, _ = kinds(4, 10, 16, 0.6, seed)
    unit = directions(vectors)
    plain = KMeans(4, n_init=20, random_state=seed).fit(unit)
    assert same(partition(unit, 4), plain.labels_)
    found = cluster_users(vectors, clusters=4, draws=19)
    assert found.silhouette.mean() == pytest.approx(silhouette_score(unit, plain.labels_, metric="cosine"), abs=1e-12)


def test_many_users_begin_with_a_tree_of_some():
    vectors, own = kinds(3, 800)
    assert same(partition(directions(vectors), 3), own)


def test_typical_users_and_next_clusters():
    angles = np.deg2rad([0, 10, 20, 90, 95, 100, 110])
    found = cluster_users(np.stack([np.cos(angles), np.sin(angles)], axis=1), list("abcdefg"), clusters=2)
    assert found.cluster.tolist() == [1, 1, 1, 0, 0, 0, 0]  # the larger one is the first
    assert found.user_id[found.typical_user(1)] == "b"
    assert found.next_cluster(0) == 0
    assert found.own_similarity[1] == pytest.approx(1)


@pytest.mark.parametrize("users", [1, 2])
def test_one_or_two_users_are_one_cluster(users):
    found = cluster_users(np.eye(3)[:users])
    assert (found.proposed, found.chance, found.cluster.tolist()) == (1, None, [0] * users)


def test_the_same_vector_many_times_is_one_cluster():
    found = cluster_users(np.outer([1, 2, 3, 4, 5, 6], [0.1, 0.2, 0.3]))
    assert (found.proposed, found.chance) == (1, None)
    assert np.isnan(found.silhouette).all()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"vectors": [[1, 2], [np.nan, 1]]}, "row 2: found nan"),
        ({"vectors": [[1, 2], [1, np.inf]]}, "row 2: found inf"),
        ({"vectors": [[0, 0], [1, 1]]}, "row 1: found zeros alone"),
        ({"vectors": [1, 2]}, r"found shape \(2,\)"),
        ({"vectors": np.eye(3), "user_id": ["a", "b", "a"]}, "found 2 different names, accepted: 3"),
        ({"vectors": np.eye(3), "clusters": 4}, "found 4, accepted: 1 to 3, as there are 3 different users"),
        ({"vectors": np.ones((3, 2)), "clusters": 2}, "found 2, accepted: 1 to 1, as there are 1 different users"),
        ({"vectors": np.eye(3), "draws": 5}, "draws: found 5, accepted: 19 or more"),
        ({"vectors": np.eye(3), "max_clusters": 0}, "--max-clusters: found 0"),
    ],
)
def test_what_cannot_be_clustered_is_refused(arguments, says):
    with pytest.raises(InputError, match=says):
        cluster_users(**arguments)
