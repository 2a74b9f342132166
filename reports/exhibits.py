"""Every figure and table: what it shows, what the paper claims for it, its table, its picture, its verdict."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from . import figures, verdicts
from .setup import Setup, Sources
from .tables import (
    device_labels,
    latency_by_gpus,
    latency_table,
    learning_table,
    metrics_table,
    pai_table,
    shrinking_table,
    splits_by_device,
    splits_by_gpus,
)
from .timing import table1
from .verdicts import Check


@dataclass(frozen=True)
class Exhibit:
    """One figure or table.

    Attributes:
        name: of its files.
        title: for the report.
        claims: what the paper says, in our words.
    """

    name: str
    title: str
    claims: str

    def draw(self, table: pd.DataFrame) -> Any:
        """The picture, a matplotlib figure."""
        draw: Callable[[pd.DataFrame], Any] = getattr(figures, self.name)
        return draw(table)

    def judge(self, table: pd.DataFrame) -> list[Check]:
        """The claims beside our numbers."""
        judge: Callable[[pd.DataFrame], list[Check]] = getattr(verdicts, self.name)
        return judge(table)


EXHIBITS = (
    Exhibit("fig3", "Fig. 3: step latency against the batch", "L(b) = k b + h fits, h being large."),
    Exhibit(
        "fig4a",
        "Fig. 4a: accuracy and personalisation",
        "Both fall as more steps are offloaded, personalisation the more.",
    ),
    Exhibit("fig4b", "Fig. 4b: the Personalised Accuracy Index", "It follows a sigmoid of the split point."),
    Exhibit(
        "fig7a",
        "Fig. 7a: offloaded steps, by batch and device",
        "Fewer steps are offloaded for a larger alpha, a larger batch, a faster device.",
    ),
    Exhibit(
        "fig7b",
        "Fig. 7b: offloaded steps, by GPUs and batch",
        "More GPUs mean more offloaded steps; with few of them the batch matters, with many alpha.",
    ),
    Exhibit(
        "fig8",
        "Fig. 8: learning curves",
        "The agent learns in all scopes; the more general, the more its curve fluctuates.",
    ),
    Exhibit("fig9a", "Fig. 9a: the scopes on one case, QoE", "The specific model is best, the others are close."),
    Exhibit("fig9b", "Fig. 9b: the scopes on one case, PAI", "Some PAI is given up."),
    Exhibit("fig9c", "Fig. 9c: the scopes on one case, latency", "Latency is saved, which outweighs it."),
    Exhibit(
        "fig10a",
        "Fig. 10a: average QoE against users",
        "The proposed method beats all baselines and varies less; baseline 3 shows no trend, the rest decline. Said of "
        "Fig. 9 too: average performance rises as users become fewer.",
    ),
    Exhibit("fig10b", "Fig. 10b: average QoE against GPUs", "The same as GPUs are taken away."),
    Exhibit(
        "fig11",
        "Fig. 11: the proposed method and its peers",
        "It beats branch & bound and the genetic algorithm, which is the poorest and least stable.",
    ),
    Exhibit(
        "table1",
        "Table 1: planning time against users",
        "O(I) for DRL-convex, O(2 P M I) for the genetic algorithm, O(2^(2 I)) for branch & bound.",
    ),
    Exhibit("beyond_shrinking", "Beyond: the price of the fixed batch", ""),
    Exhibit("beyond_sensitivity", "Beyond: what a wrong parameter costs", ""),
    Exhibit("beyond_latents", "Beyond: fp16 latents instead of pictures", ""),
    Exhibit("beyond_gpus", "Beyond: GPUs for a wanted latency", ""),
)


def collect(
    setup: Setup, sources: Sources, table_of: Callable[[str], pd.DataFrame], latency_goal_s: float | None
) -> Mapping[str, pd.DataFrame]:
    """The table of every exhibit.

    Args:
        setup: the numbers.
        sources: the parameter files.
        table_of: the rows of a finished experiment by its name.
        latency_goal_s: a wanted average latency.
    """
    scopes = table_of("scopes")
    labels = device_labels(sources.devices)
    devices = {labels[name]: latency for name, latency in setup.step_latency_s.items()}
    return {
        "fig3": latency_table(sources.edge, sources.devices),
        "fig4a": metrics_table(sources.curve),
        "fig4b": pai_table(sources.curve),
        "fig7a": splits_by_device(setup.scenario, devices),
        "fig7b": splits_by_gpus(setup.scenario, devices),
        "fig8": learning_table(),
        "fig9a": scopes[["scope", "gpus", "qoe_per_user", "captured_share", "granted"]],
        "fig9b": scopes[["scope", "gpus", "mean_pai"]],
        "fig9c": scopes[["scope", "gpus", "mean_latency_s", "qoe_per_user"]],
        "fig10a": table_of("users"),
        "fig10b": table_of("gpus"),
        "fig11": table_of("peers"),
        "table1": table1(table_of("timing")),
        "beyond_shrinking": shrinking_table(table_of("shrinking")),
        "beyond_sensitivity": table_of("sensitivity"),
        "beyond_latents": table_of("latents"),
        "beyond_gpus": latency_by_gpus(table_of("wanted"), latency_goal_s),
    }
