"""Planning time and value of every method against users, in one run, as ratios to the exact optimum.

A time counts only beside the share of the possible gain that is captured in it: "worse" marks plans that capture less
than the proposed method's on the same case, "limit" marks times that a time limit has cut.

python benchmarks/methods.py
"""

import sys

import pandas as pd
from rich.console import Console
from rich.table import Table

from edgesplit.optimizer.methods.registry import BUILT_IN
from edgesplit.reports.basis.setup import make_setup
from edgesplit.reports.exhibit.complexity import measured, time_table


def methods_table(rows: pd.DataFrame) -> Table:
    """A row per method and number of users."""
    table = Table(box=None, padding=(0, 1), header_style="bold")
    own = rows[rows["method"] == "drl"].set_index("users")["captured_share"]
    for number, heading in enumerate(("method", "users", "s", "x exact", "captured", "than proposed", "time ~ I^p")):
        table.add_column(heading, justify="right" if number else "left")
    for _, part in rows.groupby("method", sort=False):
        for row in part.itertuples():
            seconds = f"{row.seconds:.3g}" + (" (limit)" if row.cut else "")
            ahead = row.captured_share - own[row.users]
            beside = "worse" if ahead < -1e-9 else "better" if ahead > 1e-9 else "as good"
            cells = f"{row.ratio_to_exact:,.1f}", f"{row.captured_share:.4f}", beside, f"{row.slope:.2f}"
            table.add_row(str(row.method), str(row.users), seconds, *cells)
        table.add_section()
    return table


def main() -> None:
    """Measure the shipped scenario's methods, one after another."""
    setup, _ = make_setup()
    rows = pd.DataFrame([row for users in setup.size.timed_users for row in measured(setup, users, list(BUILT_IN))])
    Console(width=100, highlight=False).print(methods_table(time_table(rows)))


if __name__ == "__main__":
    sys.exit(main())
