"""`cluster`: which users share a cluster-wide model."""

from pathlib import Path
from typing import Annotated

import typer

from ..common import console

app = console.make_app(
    "Group users by how alike their subjects are, propose how many cluster-wide models are worth hosting, and write a "
    "cohort for dreambooth of each. The number of clusters is that of the largest mean silhouette, if 95 % of single "
    "clouds with the users' mean and spread, clustered alike, stay below that; else it is one."
)

Photos = Annotated[
    Path | None, typer.Option(help="Cohort file of dreambooth, or a folder with a folder of photos for each user.")
]
Vectors = Annotated[
    Path | None,
    typer.Option(help="Table (.csv, .parquet) of user_id and number columns, in place of CLIP embeddings of photos."),
]
Clusters = Annotated[int | None, typer.Option(help="Number of clusters; default: the proposed one.")]
MaxClusters = Annotated[int, typer.Option(help="Largest number of clusters that may be proposed.")]
Users = Annotated[Path | None, typer.Option(help="Users file of plan, whose column cluster is filled in.")]
ClipModel = Annotated[
    str | None,
    typer.Option(
        help="open_clip model: NAME/PRETRAINED or a folder; default: that of the cohort's gate, toyworld/clip for the "
        "toy world, else ViT-L-14/openai."
    ),
]
Base = Annotated[
    str | None,
    typer.Option(help="Base of the cohorts; default: the cohort file's, or Stable Diffusion 1.5 for a folder."),
]
ClassWord = Annotated[
    str | None, typer.Option(help="Word for what the subjects are; default: the cohort file's. A folder needs it.")
]
Device = Annotated[str, typer.Option(help="cpu, cuda, cuda:1; default: the first GPU, if there is one.")]
Seed = Annotated[int, typer.Option(min=0, help="Random seed of the single clouds; nothing else is random.")]
Folder = Annotated[
    Path | None, typer.Option("-o", "--output", help="New folder for cohorts, users.csv, clusters.json and pictures.")
]
Example = Annotated[
    Path | None, typer.Option(help="Folder to write an example into, instead: toy photos of two kinds of dogs.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object, that of clusters.json.")]


@app.command()
def cluster(
    photos: Photos = None,
    vectors: Vectors = None,
    clusters: Clusters = None,
    max_clusters: MaxClusters = 8,
    users: Users = None,
    clip: ClipModel = None,
    base: Base = None,
    class_word: ClassWord = None,
    device: Device = "",
    seed: Seed = 0,
    output: Folder = None,
    example: Example = None,
    as_json: AsJson = False,
) -> None:
    """Group the users of a cohort, a folder or a table."""
    from .cluster_command import ClusterRequest, run_cluster, write_start

    if example:
        write_start(example)
        return
    changes = {name: value for name, value in {"base": base, "class_word": class_word}.items() if value is not None}
    request = ClusterRequest(
        photos=photos, vectors=vectors, clusters=clusters, max_clusters=max_clusters, users=users, clip=clip,
        changes=changes, device=device, seed=seed, output=output, as_json=as_json,
    )  # fmt: skip
    run_cluster(request)
