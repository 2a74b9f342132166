"""Beyond the paper: fp16 latents instead of pictures as intermediates."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pandas as pd

from ..basis.checks import FINDING, Check
from ..basis.definitions import Exhibit, Experiment, rows_as_they_are
from ..basis.look import QOE, USERS, asides, framed, legend_below, line_looks, mean_line
from ..basis.scoring import Row, optimum_row
from ..basis.setup import Setup

FP16_LATENT_BITS = 262_144.0
"""4 x 64 x 64 numbers of 16 bits: the intermediate of Stable Diffusion 1.5 at 512 pixels."""


def rows_of(setup: Setup, users: int, number: int) -> Iterator[Row]:
    """One case: the optimum with the scenario's intermediates, and with fp16 latents."""
    drawn = setup.case(users, number)
    for bits in (setup.scenario.latent_bits, FP16_LATENT_BITS):
        best = optimum_row(replace(drawn.scenario, latent_bits=bits), drawn.users)
        yield {"latent_bits": bits, "users": users, "case": number, **best}


def draw(table: pd.DataFrame) -> Any:
    """Average QoE and granted users of the optimum, for two sizes of the intermediate."""
    with framed(rows=2, height=5.4, sharex=True) as (figure, axes):
        sizes = sorted(table["latent_bits"].unique(), reverse=True)
        for size, look, aside in zip(sizes, line_looks(), asides(table["users"], len(sizes)), strict=False):
            rows = table[table["latent_bits"] == size]
            for axis, column in zip(axes, ("qoe_per_user", "granted"), strict=True):
                mean_line(axis, rows, "users", column, aside, label=f"{size:,.0f} bit", **look)
        axes[0].set(ylabel=QOE)
        axes[1].set(ylabel="granted users", xlabel=USERS, ylim=(0, None), xticks=sorted(table["users"].unique()))
    return legend_below(figure)


def judge(table: pd.DataFrame) -> list[Check]:
    """What the smaller intermediate gains in QoE, granted users and latency."""
    big, small = max(table["latent_bits"]), min(table["latent_bits"])
    mean = table.groupby("latent_bits")[["qoe_per_user", "granted", "mean_latency_s"]].mean()
    won = mean.loc[small] - mean.loc[big]
    return [
        Check(
            "fp16 latents instead of pictures.",
            FINDING,
            f"{small:,.0f} instead of {big:,.0f} bit: {won['qoe_per_user']:.2f} s of QoE more per user, "
            f"{mean.loc[small, 'granted']:.1f} instead of {mean.loc[big, 'granted']:.1f} users granted, "
            f"{-won['mean_latency_s']:.2f} s less average latency",
        )
    ]


LATENTS = Experiment(name="latents", points=lambda size: size.users, cases=lambda size: size.cases, rows=rows_of)
BEYOND_LATENTS = Exhibit(
    name="beyond_latents",
    title="Beyond: fp16 latents instead of pictures",
    experiment=LATENTS,
    table=rows_as_they_are,
    draw=draw,
    judge=judge,
)
