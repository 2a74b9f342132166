"""Clusters of users by the directions of their vectors, and how many clusters there are.

A partition into K clusters is Ward's tree, cut at K, and then K-means from its centres, both on vectors of length 1,
where the squared distance is 2 (1 - cosine). Nothing in it is random, and it does not depend on the order of the users.
How many clusters there are: the K of the largest mean silhouette (Rousseeuw 1987, of cosine distances), if that is more
than what one cloud of users reaches by chance (the idea of SigClust, Liu et al. 2008), else one. The cloud is a normal
distribution of the same mean and covariance; it is drawn `DRAWS` times and clustered in the same way.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ..common.arrays import Floats, Ints
from ..common.errors import InputError, shown

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

DRAWS = 99
"""Number of clouds that are drawn."""
ONE_IN = 20
"""A silhouette is more than chance where it is among the largest 1 in 20 of the clouds' and itself."""
MOST_USERS = 20_000
MOST_CLUSTERS = 100
IN_TREE, IN_CLOUD = 2000, 200
"""Most users that are put into Ward's tree, and that are drawn of a cloud (fewer make chance larger, not smaller)."""
ALIKE = 1e-10
"""Cosine distance to their mean below which all users are the same but for rounding."""
WORKING_MEMORY_MB = 128


@dataclass(frozen=True)
class ClusterCount:
    """One number of clusters, and how well the users fit into as many.

    Attributes:
        clusters: the number, K.
        silhouette: mean silhouette of the users; None for one cluster, and where every user is alone.
        similarity: mean cosine between the users and the centres of their clusters.
        smallest: number of users in the smallest cluster.
        largest: number of users in the largest cluster.
    """

    clusters: int
    silhouette: float | None
    similarity: float
    smallest: int
    largest: int


@dataclass(frozen=True)
class Clustering:
    """Users in clusters.

    Attributes:
        user_id: names of the users.
        cluster: cluster of every user, numbers from 0; the largest cluster is 0, shape (users,).
        similarities: cosine between every user and the centre of every cluster, shape (users, clusters).
        silhouette: how sure the cluster of every user is: 1 for certain, 0 between two clusters, below 0 nearer to
            another; NaN for one cluster, shape (users,).
        counts: every number of clusters that was tried, ascending.
        proposed: the number of clusters that the rule proposes.
        chance: silhouette that one cloud of users reaches in 5 of 100 cases; None where there was nothing to ask.
        places: the users in the plane that shows most of how they differ, shape (users, 2).
    """

    user_id: Sequence[str]
    cluster: Ints
    similarities: Floats
    silhouette: Floats
    counts: Sequence[ClusterCount]
    proposed: int
    chance: float | None
    places: Floats

    @property
    def own_similarity(self) -> Floats:
        """Cosine between every user and the centre of its own cluster, shape (users,)."""
        return self.similarities[np.arange(len(self.cluster)), self.cluster]

    def typical_user(self, cluster: int) -> int:
        """The number of the user who is nearest to a cluster's centre."""
        own = np.where(self.cluster == cluster, self.own_similarity, -np.inf)
        return int(np.argmax(own))

    def next_cluster(self, user: int) -> int | None:
        """The cluster that a user is most like after its own; None where there is one cluster."""
        others = np.delete(np.arange(self.similarities.shape[1]), self.cluster[user])
        return int(others[np.argmax(self.similarities[user, others])]) if len(others) else None


def cluster_users(
    vectors: "ArrayLike",
    user_id: Sequence[str] | None = None,
    *,
    clusters: int | None = None,
    max_clusters: int = 8,
    seed: int = 0,
    draws: int = DRAWS,
) -> Clustering:
    """Group users by the directions of their vectors.

    Args:
        vectors: one row per user, such as the mean CLIP embedding of the user's photos, shape (users, width). Their
            lengths do not matter.
        user_id: names of the users, unique; None for user-1, user-2 and so on.
        clusters: number of clusters; None for the proposed one.
        max_clusters: largest number of clusters that may be proposed.
        seed: seed of the clouds that chance is measured with.
        draws: number of those clouds; the more, the finer chance is told; 19 or more.

    Raises:
        InputError: for vectors without a direction, names that are not unique, and numbers out of range.
    """
    unit = directions(vectors)
    names = list(user_id) if user_id is not None else [f"user-{number + 1}" for number in range(len(unit))]
    if len(set(names)) < len(names) or len(names) != len(unit):
        raise InputError(f"user_id: found {len(set(names))} different names, accepted: {len(unit)}, one for each row")
    if draws < ONE_IN - 1:
        raise InputError(f"draws: found {draws}, accepted: {ONE_IN - 1} or more")
    order = np.lexsort(unit.T[::-1])  # whatever the order of the users, the same work is done
    most = different(unit)
    check_numbers(clusters, max_clusters, most)
    partitions = {k: partition(unit[order], k) for k in range(1, max(min(max_clusters, most), clusters or 1) + 1)}
    counts = [_count(unit[order], labels) for labels in partitions.values()]
    proposed, chance = _propose(unit[order], counts[:max_clusters], seed, draws)
    labels = np.empty(len(unit), np.int64)
    labels[order] = partitions[clusters or proposed]
    return _clustering(unit, names, labels, counts, proposed, chance)


def directions(vectors: "ArrayLike") -> Floats:
    """Vectors at length 1, shape (users, width).

    Raises:
        InputError: naming the first user whose vector has no direction.
    """
    values = np.asarray(vectors, np.float64)
    if values.ndim != 2 or not values.size or len(values) > MOST_USERS:
        raise InputError(f"vectors: found shape {values.shape}, accepted: (users, width), up to {MOST_USERS:,} users")
    largest = np.abs(values).max(axis=1)
    wrong = ~(np.isfinite(largest) & (largest > 0))
    if wrong.any():
        row = int(np.argmax(wrong))
        raise InputError(f"vectors: row {row + 1}: found {_fault(values[row])}, accepted: finite numbers, one not 0")
    scaled = values / largest[:, None]  # squares of the numbers themselves could be too large or too small
    unit: Floats = scaled / np.linalg.norm(scaled, axis=1, keepdims=True)
    return unit


def _fault(vector: Floats) -> str:
    bad = vector[~np.isfinite(vector)]
    return shown(float(bad[0])) if len(bad) else "zeros alone"


def different(unit: Floats) -> int:
    """How many users are different, but for rounding."""
    centre = unit.mean(axis=0)
    norm = np.linalg.norm(centre)
    if norm > 0 and (1 - unit @ centre / norm).max() < ALIKE:
        return 1
    return len(np.unique(unit.round(6), axis=0))


def check_numbers(clusters: int | None, max_clusters: int, most: int = MOST_USERS) -> None:
    """Refuse numbers of clusters that are out of range.

    Raises:
        InputError: naming the option.
    """
    if not 1 <= max_clusters <= MOST_CLUSTERS:
        raise InputError(f"--max-clusters: found {max_clusters}, accepted: 1 to {MOST_CLUSTERS}")
    if clusters is not None and not 1 <= clusters <= min(most, MOST_CLUSTERS):
        why = f", as there are {most} different users" if most < MOST_CLUSTERS else ""
        raise InputError(f"--clusters: found {clusters}, accepted: 1 to {min(most, MOST_CLUSTERS)}{why}")


def partition(unit: Floats, clusters: int) -> Ints:
    """The cluster of every user, shape (users,), of vectors at length 1, shape (users, width)."""
    from sklearn.cluster import AgglomerativeClustering, KMeans

    if clusters == 1:
        return np.zeros(len(unit), np.int64)
    some = unit[np.linspace(0, len(unit) - 1, min(len(unit), IN_TREE)).round().astype(int)]
    tree = AgglomerativeClustering(clusters, linkage="ward").fit_predict(some)
    centres = np.stack([some[tree == cluster].mean(axis=0) for cluster in range(clusters)])
    labels: Ints = KMeans(clusters, init=centres, n_init=1, random_state=0).fit_predict(unit)
    return labels.astype(np.int64)


def silhouettes(unit: Floats, labels: Ints) -> Floats:
    """The silhouette of every user, of cosine distances; NaN where there is one cluster, or every user is alone."""
    from sklearn import config_context
    from sklearn.metrics import silhouette_samples

    if not 2 <= len(np.unique(labels)) < len(labels):
        return np.full(len(labels), np.nan)
    with config_context(working_memory=WORKING_MEMORY_MB):
        values: Floats = silhouette_samples(unit, labels, metric="cosine")
    return values


def _centres(unit: Floats, labels: Ints) -> Floats:
    """The mean direction of every cluster, shape (clusters, width); zeros where its users point everywhere."""
    means = np.stack([unit[labels == cluster].mean(axis=0) for cluster in range(labels.max() + 1)])
    norms = np.linalg.norm(means, axis=1, keepdims=True)
    centres: Floats = np.divide(means, norms, out=np.zeros_like(means), where=norms > 0)
    return centres


def _count(unit: Floats, labels: Ints) -> ClusterCount:
    """What a partition is like as a whole."""
    sizes = np.bincount(labels)
    silhouette = float(silhouettes(unit, labels).mean())
    return ClusterCount(
        clusters=len(sizes),
        silhouette=None if np.isnan(silhouette) else silhouette,
        similarity=float((unit * _centres(unit, labels)[labels]).sum(axis=1).mean()),
        smallest=int(sizes.min()),
        largest=int(sizes.max()),
    )


# -- how many -----------------------------------------------------------------------------------------------


def _propose(unit: Floats, counts: Sequence[ClusterCount], seed: int, draws: int) -> tuple[int, float | None]:
    """The number of clusters that is proposed, and the silhouette that chance reaches in 5 of 100 cases."""
    tried = [count for count in counts if count.silhouette is not None]
    if not tried:
        return 1, None
    best = max(tried, key=lambda count: count.silhouette or 0.0)
    cloud = np.sort([_best_silhouette(drawn, len(tried) + 1) for drawn in _clouds(unit, seed, draws)])
    chance = float(cloud[-max(1, (len(cloud) + 1) // ONE_IN)])
    return (best.clusters if (best.silhouette or 0.0) > chance else 1), chance


def _clouds(unit: Floats, seed: int, draws: int) -> Iterator[Floats]:
    """Users of one normal cloud with the mean and the covariance of these, at length 1."""
    rng, users = np.random.default_rng(seed), min(len(unit), IN_CLOUD)
    mean = unit.mean(axis=0)
    _, spread, axes = np.linalg.svd(unit - mean, full_matrices=False)
    root = spread[:, None] * axes / np.sqrt(len(unit) - 1)  # root.T @ root is the covariance
    for _ in range(draws):
        yield directions(mean + rng.standard_normal((users, len(root))) @ root)


def _best_silhouette(unit: Floats, most: int) -> float:
    """The largest mean silhouette of 2 to `most` clusters."""
    counts = range(2, min(most, len(unit) - 1) + 1)
    return max(float(silhouettes(unit, partition(unit, clusters)).mean()) for clusters in counts)


# -- the result ---------------------------------------------------------------------------------------------


def _clustering(
    unit: Floats, names: Sequence[str], labels: Ints, counts: Sequence[ClusterCount], proposed: int, chance: Any
) -> Clustering:
    """The partition with its clusters numbered by size, equal ones by the first name in them."""
    members = [np.flatnonzero(labels == cluster) for cluster in np.unique(labels)]
    members.sort(key=lambda users: (-len(users), min(names[int(user)] for user in users)))
    numbered = np.empty(len(labels), np.int64)
    for number, users in enumerate(members):
        numbered[users] = number
    return Clustering(
        user_id=names,
        cluster=numbered,
        similarities=unit @ _centres(unit, numbered).T,
        silhouette=silhouettes(unit, numbered),
        counts=counts,
        proposed=proposed,
        chance=chance,
        places=_places(unit),
    )


def _places(unit: Floats) -> Floats:
    """The first two principal components of the users, shape (users, 2)."""
    left, spread, _ = np.linalg.svd(unit - unit.mean(axis=0), full_matrices=False)
    places = np.zeros((len(unit), 2))
    shared = min(2, len(spread))
    places[:, :shared] = left[:, :shared] * spread[:shared]
    return places
