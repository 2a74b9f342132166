"""Planning time and value of every method against users, in one run, as ratios to the exact optimum.

python benchmarks/methods.py
"""

import sys

import pandas as pd
from rich.console import Console
from rich.table import Table

from edgesplit.optimizer.scenario import overrides
from edgesplit.reports.setup import FULL, make_setup
from edgesplit.reports.timing import measure, table1, units


def methods_table(rows: pd.DataFrame) -> Table:
    """A row per method and number of users."""
    table = Table(box=None, padding=(0, 1), header_style="bold")
    for number, heading in enumerate(("method", "users", "s", "x exact", "captured", "time ~ I^p")):
        table.add_column(heading, justify="right" if number else "left")
    for _, part in rows.groupby("method", sort=False):
        for row in part.itertuples():
            cells = f"{row.seconds:.3g}", f"{row.ratio_to_exact:,.1f}", f"{row.captured_share:.4f}", f"{row.slope:.2f}"
            table.add_row(str(row.method), str(row.users), *cells)
        table.add_section()
    return table


def main() -> None:
    """Measure the shipped scenario's methods, one after another."""
    setup, _ = make_setup("default", overrides(), None, FULL, policy="set-general", seed=0)
    rows = pd.DataFrame([row for unit in units(setup) for row in measure(setup, unit)])
    Console(width=100, highlight=False).print(methods_table(table1(rows)))


if __name__ == "__main__":
    sys.exit(main())
