"""The requests of finished runs as Parquet files, one a run, so that an interrupted comparison goes on."""

import hashlib
import json
import re
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from ..common.errors import InputError, reason_of
from ..common.files import make_folder, whole_file
from .runs import Run
from .simulator import World

FOLDER = "requests"
KEY = b"edgesplit"


def world_digest(world: World) -> str:
    """A digest of everything that happens in a world."""
    requests, users = world.requests, world.users
    for_all, own = (0.0, world.decode_s) if isinstance(world.decode_s, np.ndarray) else (world.decode_s, None)
    numbers = [world.gpus_over_time, world.physics, world.step_overhead_s, for_all, world.device_queueing]
    text = json.dumps([asdict(world.scenario), numbers, world.images_each], default=str)
    digest = hashlib.sha256(text.encode())
    for array in (
        requests.time_s,
        requests.user,
        requests.patience_s,
        requests.own_steps,
        users.step_latency_s,
        users.alpha,
        *((users.cluster, users.rate) if world.several else ()),
    ):
        digest.update(b"-" if array is None else np.ascontiguousarray(array).tobytes())
    if own is not None:
        digest.update(own.tobytes())
    return digest.hexdigest()


class RunFiles:
    """The requests files of one comparison.

    Attributes:
        folder: folder of the files.
        digests: digest of every world, by its number.
    """

    def __init__(self, folder: Path, digests: list[str]) -> None:
        self.folder, self.digests = folder / FOLDER, digests

    def check(self) -> None:
        """Refuse a folder with the requests of other worlds.

        Raises:
            InputError: naming the first such file.
        """
        make_folder(self.folder)
        for path in sorted(self.folder.glob("*.parquet")):
            number, known = _number(path), self._header(path)
            if not 0 <= number < len(self.digests) or known.get("world") != self.digests[number]:
                raise InputError(
                    f"{path}: found requests of another simulation; choose another folder with -o, or remove it"
                )

    def path(self, method: str, number: int) -> Path:
        """The file of a run."""
        return self.folder / f"{re.sub(r'[^A-Za-z0-9._-]', '_', method)}-{number:04}.parquet"

    def read(self, method: str, number: int, way: str) -> Run | None:
        """A finished run; None where there is none of this way to decide."""
        path = self.path(method, number)
        header = self._header(path) if path.exists() else {}
        if header.get("world") != self.digests[number] or header.get("way") != way:
            return None
        import pyarrow.parquet as pq

        table = pq.read_table(path)
        rows = {name: table[name].to_numpy() for name in table.column_names}
        busy = (np.atleast_1d(header[name]).tolist() for name in ("edge_busy_s", "radio_busy_s"))
        return Run(method, number, rows, header["duration_s"], *busy)

    def write(self, run: Run, way: str) -> None:
        """Keep a finished run.

        Args:
            run: the run.
            way: what the way to decide depends on beyond its name.
        """
        import pyarrow as pa
        import pyarrow.parquet as pq

        header = {
            "world": self.digests[run.world], "method": run.method, "way": way, "duration_s": run.duration_s,
            "edge_busy_s": run.edge_busy_s, "radio_busy_s": run.radio_busy_s,
        }  # fmt: skip
        table = pa.table({name: pa.array(values) for name, values in run.rows.items()})
        with whole_file(self.path(run.method, run.world), "wb") as handle:
            pq.write_table(table.replace_schema_metadata({KEY: json.dumps(header).encode()}), handle)

    def _header(self, path: Path) -> dict[str, Any]:
        import pyarrow.parquet as pq

        try:
            metadata = pq.read_schema(path).metadata or {}
            header = json.loads(metadata.get(KEY, b"{}"))
        except (OSError, ValueError) as error:  # pyarrow's own errors are ValueErrors
            raise InputError(
                f"{path}: cannot read ({reason_of(error)}); remove it, and the same command makes it again"
            ) from error
        return header if isinstance(header, dict) else {}


def _number(path: Path) -> int:
    """The number of the world in a file's name; -1 where it has none."""
    tail = path.stem.rpartition("-")[2]
    return int(tail) if tail.isdigit() else -1
