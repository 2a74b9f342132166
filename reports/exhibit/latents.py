"""Beyond the paper: fp16 latents instead of pictures as intermediates."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pandas as pd

from ..basis.checks import FINDING, Check
from ..basis.definitions import Exhibit, Experiment, rows_as_they_are
from ..basis.look import QOE, USERS, asides, framed, from_zero, legend_below, line_looks, mean_line
from ..basis.scoring import Row, optimum_row
from ..basis.setup import Setup

FP16_LATENT_BITS = 262_144.0
"""4 x 64 x 64 numbers of 16 bits: the intermediate of Stable Diffusion 1.5 at 512 pixels."""


def rows_of(setup: Setup, users: int, number: int) -> Iterator[Row]:
    """One case: the optimum with the scenario's intermediates, and with fp16 latents."""
    drawn = setup.case(users, number)
    for bits in dict.fromkeys((setup.scenario.latent_bits, FP16_LATENT_BITS)):
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
        axes[1].set(ylabel="granted users", xlabel=USERS, xticks=sorted(table["users"].unique()))
        from_zero(axes[1], 1)
    return legend_below(figure)


def judge(table: pd.DataFrame) -> list[Check]:
    """What the smaller intermediate gains in QoE, granted users and latency."""
    claim = "fp16 latents instead of pictures."
    mean = table.groupby("latent_bits")[["qoe_per_user", "granted", "mean_latency_s"]].mean()
    own = next((bits for bits in mean.index if bits != FP16_LATENT_BITS), None)
    if own is None:
        return [Check(claim, FINDING, "the scenario's intermediates are of this size already")]
    won = mean.loc[FP16_LATENT_BITS] - mean.loc[own]
    few, many = (float(mean["granted"].loc[bits]) for bits in (own, FP16_LATENT_BITS))
    return [
        Check(
            claim,
            FINDING,
            f"{FP16_LATENT_BITS:,.0f} instead of {own:,.0f} bit: {won['qoe_per_user']:z.2f} s of QoE more per user, "
            f"{many:.1f} instead of {few:.1f} users granted, "
            f"{-won['mean_latency_s']:z.2f} s less average latency",
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
