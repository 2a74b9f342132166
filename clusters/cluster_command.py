"""What the command `cluster` does: vectors of users, their clusters, and the files that follow from them."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..common.arrays import Floats
from ..common.console import say
from ..common.errors import InputError, counted, require
from ..common.figures import save_both
from ..common.files import make_folder, record_json, write_record
from ..common.table_reader import TextTable
from ..common.tables import plain_table, print_table, short_name, write_table
from ..diffusion.inference.references import MODULES, check_device
from .grouping import MOST_USERS, Clustering, check_numbers, cluster_users
from .records import AssignmentRecord, ClustersFile, cluster_names, clusters_file
from .tables import check_together, read_known_users, read_vectors, with_clusters

if TYPE_CHECKING:
    from ..diffusion.train.cohort import CohortFile

SUMMARY, USERS, VECTORS, PICTURE = "clusters.json", "users.csv", "vectors.parquet", "clusters"
MOST_SHOWN = 40
"""Most users that are printed; all stand in the files and in the JSON."""
UNSURE = 0.1
"""A silhouette below which a user lies between two clusters."""


@dataclass(frozen=True, kw_only=True)
class ClusterRequest:
    """The options of `cluster`, which its help explains; `changes` are the fields of the cohorts that they set."""

    photos: Path | None
    vectors: Path | None
    clusters: int | None
    max_clusters: int
    users: Path | None
    clip: str | None
    changes: dict[str, str]
    device: str
    seed: int
    output: Path | None
    as_json: bool


@dataclass(frozen=True)
class Subjects:
    """The users and how they were compared.

    Attributes:
        user_id: names of the users.
        vectors: their vectors, shape (users, width).
        cohort: their photos; None where only vectors are given.
        clip: CLIP that embedded the photos; None for given vectors.
    """

    user_id: list[str]
    vectors: Floats
    cohort: "CohortFile | None"
    clip: str | None


def write_start(folder: Path) -> None:
    """Write the example of the toy world into a folder."""
    require("models", "PIL")
    from .example import write_example

    path = write_example(folder)
    say(f"wrote {path} and rendered photos; now: edgesplit cluster --photos {path} -o {folder / 'clusters'}")


def run_cluster(request: ClusterRequest) -> None:
    """Group users, print the clusters and write what was asked for.

    Raises:
        InputError: one line; nothing is printed or written then.
    """
    _check(request)
    known = read_known_users(request.users) if request.users else None
    subjects = _subjects(request)
    together = check_together(subjects.user_id, list(known["user_id"]), "the subjects", "--users") if known else ""
    found = cluster_users(
        subjects.vectors,
        subjects.user_id,
        clusters=request.clusters,
        max_clusters=request.max_clusters,
        seed=request.seed,
    )
    word = subjects.cohort.cohort.class_word if subjects.cohort else None
    names = cluster_names(word, found.similarities.shape[1])
    source = str(request.photos or request.vectors)
    record = clusters_file(found, names, source, subjects.clip, request.seed, has_cohorts=subjects.cohort is not None)
    if request.output:
        _write(request.output, record, found, subjects, known)
    if request.as_json:
        print(record_json(record), end="")
    else:
        _print(record)
    for notice in filter(None, (together, *_notices(record))):
        say(f"cluster: {notice}")
    if request.output:
        _say_written(request.output, record)


def _check(request: ClusterRequest) -> None:
    """Refuse options that are missing, out of range or of no use, before anything slow begins."""
    if request.photos is None and request.vectors is None:
        raise InputError("--photos, --vectors: found neither, accepted: one of them; --example FOLDER writes photos")
    check_numbers(request.clusters, request.max_clusters)
    check_device(request.device)
    if request.photos is None and (request.changes or request.clip):
        raise InputError("--vectors: found an option about photos as well (--clip, --base, --class-word); add --photos")
    if request.vectors and request.clip:
        raise InputError("--clip: found --vectors as well, which take its place, accepted: one of the two")
    if request.photos and request.photos.is_dir() and request.output and "class_word" not in request.changes:
        raise InputError("--class-word: missing; cohorts of a folder need the word for their subjects, such as dog")
    if request.output and (request.output / SUMMARY).exists():
        raise InputError(f"{request.output / SUMMARY}: is there already; choose another folder")
    if request.users and not request.output:
        raise InputError("--users: found no -o, accepted: both; -o names the folder for the users file with clusters")


def _subjects(request: ClusterRequest) -> Subjects:
    """The users' vectors: read, or made of their photos."""
    if request.photos is None:
        return Subjects(*read_vectors(request.vectors or Path()), None, None)
    require("models", *MODULES)
    from .cohorts import clip_of, read_members

    file = read_members(request.photos, request.changes)
    names = [user.name for user in file.cohort.users]
    if len(names) > MOST_USERS:
        raise InputError(f"{request.photos}: found {len(names):,} users, accepted: up to {MOST_USERS:,}")
    if request.vectors:
        return Subjects(names, _vectors_of(names, request.vectors), file, None)
    from .. import data
    from ..diffusion.inference.references import pick_device
    from .embedding import embed_users

    clip = data.located(request.clip or clip_of(file))
    return Subjects(names, embed_users(file, clip, pick_device(request.device)), file, data.portable(clip))


def _vectors_of(names: list[str], path: Path) -> Floats:
    """The rows of a table that belong to these users, in their order."""
    listed, vectors = read_vectors(path)
    row = {name: number for number, name in enumerate(listed)}
    missing = [name for name in names if name not in row]
    if missing:
        raise InputError(f"{path}: found no row of user {missing[0]!r}, accepted: one of every user with photos")
    wanted: Floats = vectors[[row[name] for name in names]]
    return wanted


# -- files --------------------------------------------------------------------------------------------------


def _write(folder: Path, record: ClustersFile, found: Clustering, subjects: Subjects, known: TextTable | None) -> None:
    """Write the cohorts, the users, the vectors, the picture, and last the summary."""
    from .figures import draw_clusters

    cohorts = {} if subjects.cohort is None else dict(_cohorts(folder, record, subjects.cohort))
    make_folder(folder)
    for name, (content, comment) in cohorts.items():
        from .cohorts import write_cohort

        write_cohort(folder / f"{name}.toml", content, comment)
    cluster_of = {user.user_id: user.cluster for user in record.users}
    plain = {"user_id": list(cluster_of), "cluster": list(cluster_of.values())}
    write_table(folder / USERS, with_clusters(known, cluster_of, folder) if known else plain)
    if subjects.clip:
        columns = {f"x{number}": column.tolist() for number, column in enumerate(subjects.vectors.T)}
        write_table(folder / VECTORS, {"user_id": subjects.user_id, **columns})
    save_both(folder / PICTURE, draw_clusters(found, [cluster.name for cluster in record.clusters]))
    write_record(folder / SUMMARY, record)


def _cohorts(
    folder: Path, record: ClustersFile, file: "CohortFile"
) -> Iterator[tuple[str, tuple[dict[str, object], str]]]:
    """The name of each cluster, what its cohort file says, and the comment that begins it."""
    from .cohorts import cohort_of

    for cluster in record.clusters:
        users = [user.user_id for user in record.users if user.cluster == cluster.name]
        comment = f"Cluster {cluster.name}: {counted(len(users), 'user')}, the most typical one {cluster.typical_user}"
        yield cluster.name, (cohort_of(file, users, folder), comment)


# -- words --------------------------------------------------------------------------------------------------


def _print(record: ClustersFile) -> None:
    """The numbers of clusters, the clusters and the users, for a person."""
    table = plain_table("K", "silhouette", "similarity", "smallest", "largest", "", right_from=0)
    table.columns[-1].justify = "left"
    for count in record.counts:
        mark = "<- proposed" if count.clusters == record.proposed else ""
        cells = (f"{count.clusters}", _number(count.silhouette), f"{count.similarity:.3f}")
        table.add_row(*cells, f"{count.smallest}", f"{count.largest}", mark)
    print_table(table)
    print(_rule(record))
    print()
    table = plain_table("cluster", "users", "similarity", "most typical user", right_from=1)
    table.columns[-1].justify = "left"
    for cluster in record.clusters:
        name, typical = short_name(cluster.name, 24), short_name(cluster.typical_user, 30)
        table.add_row(name, f"{cluster.users}", f"{cluster.similarity:.3f}", typical)
    print_table(table)
    print()
    _print_users(record)


def _print_users(record: ClustersFile) -> None:
    table = plain_table("user", "cluster", "similarity", "next cluster", "similarity", "silhouette", right_from=2)
    table.columns[1].justify = table.columns[3].justify = "left"
    order = {cluster.name: number for number, cluster in enumerate(record.clusters)}
    users = sorted(record.users, key=lambda user: (order[user.cluster], -user.similarity))
    for user in users[:MOST_SHOWN]:
        table.add_row(short_name(user.user_id, 24), short_name(user.cluster, 24), *_cells(user))
    print_table(table)
    if len(users) > MOST_SHOWN:
        print(f"... and {counted(len(users) - MOST_SHOWN, 'more user')}; --json and -o have all")


def _cells(user: AssignmentRecord) -> list[str]:
    """How sure the cluster of a user is."""
    return [f"{user.similarity:.3f}", user.next_cluster or "-", _number(user.next_similarity), _number(user.silhouette)]


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _rule(record: ClustersFile) -> str:
    """Why so many clusters are proposed, in one line of 80 columns."""
    if record.chance_silhouette is None:
        return "1 cluster: too few different users to tell clusters apart, or no more allowed"
    chance = f"5 % of single clouds reach silhouette {record.chance_silhouette:.3f}"
    if record.proposed > 1:
        return f"{record.proposed} clusters are more than chance: {chance}"
    best = max(count.silhouette for count in record.counts if count.silhouette is not None)
    return f"1 cluster: {best:.3f} may be chance: {chance}"


def _notices(record: ClustersFile) -> Iterator[str]:
    """What should be known of the clusters."""
    if len(record.clusters) != record.proposed:
        yield f"{counted(len(record.clusters), 'cluster')} as asked for; {record.proposed} would be proposed"
    between = [user.user_id for user in record.users if user.silhouette is not None and user.silhouette < UNSURE]
    alone = [cluster.typical_user for cluster in record.clusters if cluster.users == 1]
    unsure = [user for user in between if user not in alone]
    if unsure and len(record.clusters) > 1:
        yield f"{counted(len(unsure), 'user')} between two clusters (silhouette below {UNSURE}), such as {unsure[0]!r}"
    if alone and len(record.clusters) > 1:
        yield f"{counted(len(alone), 'cluster')} of one user, whom no model is shared with: {', '.join(alone[:3])}"


def _say_written(folder: Path, record: ClustersFile) -> None:
    cohorts = [cluster.cohort for cluster in record.clusters if cluster.cohort]
    beside = f", and {counted(len(cohorts), 'cohort')}" if cohorts else ""
    say(f"wrote {folder}: {SUMMARY}, {USERS}, {PICTURE}.png and .svg{beside}")
    if cohorts:
        say(f"now: dreambooth {folder / cohorts[0]}" + (", and so on" if len(cohorts) > 1 else ""))
    else:
        say("cluster: no cohorts: vectors have no photos; give --photos as well")
