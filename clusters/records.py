"""What `cluster` found, as JSON: the file `clusters.json`, and what `--json` prints."""

from collections.abc import Sequence
from typing import Literal

from pydantic import Field

from ..common.files import Record
from .grouping import DRAWS, Clustering


class CountRecord(Record):
    """A number of clusters that was tried, as `grouping.ClusterCount`."""

    clusters: int
    silhouette: float | None
    similarity: float
    smallest: int
    largest: int


class ClusterRecord(Record):
    """A cluster: its name, number of users, mean similarity to its centre, most typical user, and cohort file."""

    name: str
    users: int
    similarity: float
    typical_user: str
    cohort: str | None


class AssignmentRecord(Record):
    """A user: its cluster and the next one, how similar it is to the centres of both, and how sure the cluster is."""

    user_id: str
    cluster: str
    similarity: float
    next_cluster: str | None
    next_similarity: float | None
    silhouette: float | None


class ClustersFile(Record):
    """What the users are like, how many clusters are proposed and why, the clusters, and every user's."""

    schema_: Literal["edgesplit/clusters@1"] = Field(default="edgesplit/clusters@1", alias="schema")
    source: str
    clip: str | None
    proposed: int
    chance_silhouette: float | None
    draws: int
    seed: int
    counts: list[CountRecord]
    clusters: list[ClusterRecord]
    users: list[AssignmentRecord]


def cluster_names(class_word: str | None, count: int) -> list[str]:
    """The names of clusters: the class word, or "cluster", and a number where there are several."""
    kept = "".join(letter if letter.isascii() and letter.isalnum() else " " for letter in class_word or "")
    word = "-".join(kept.split()) or "cluster"
    return [word] if count == 1 and word != "cluster" else [f"{word}-{number + 1}" for number in range(count)]


def clusters_file(
    found: Clustering, names: Sequence[str], source: str, clip: str | None, seed: int, *, has_cohorts: bool
) -> ClustersFile:
    """The record of a clustering."""
    sizes = [int((found.cluster == number).sum()) for number in range(len(names))]
    own = found.own_similarity
    return ClustersFile(
        source=source,
        clip=clip,
        proposed=found.proposed,
        chance_silhouette=found.chance,
        draws=DRAWS,
        seed=seed,
        counts=[CountRecord(**vars(count)) for count in found.counts],
        clusters=[
            ClusterRecord(
                name=name,
                users=sizes[number],
                similarity=float(own[found.cluster == number].mean()),
                typical_user=found.user_id[found.typical_user(number)],
                cohort=f"{name}.toml" if has_cohorts else None,
            )
            for number, name in enumerate(names)
        ],
        users=[_assignment(found, names, user) for user in range(len(found.user_id))],
    )


def _assignment(found: Clustering, names: Sequence[str], user: int) -> AssignmentRecord:
    following = found.next_cluster(user)
    silhouette = float(found.silhouette[user])
    return AssignmentRecord(
        user_id=found.user_id[user],
        cluster=names[found.cluster[user]],
        similarity=float(found.own_similarity[user]),
        next_cluster=None if following is None else names[following],
        next_similarity=None if following is None else float(found.similarities[user, following]),
        silhouette=None if silhouette != silhouette else silhouette,  # noqa: PLR0124 - NaN
    )
