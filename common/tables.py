"""The one look of the tables that commands print."""

from rich.table import Table


def plain_table(*headings: str, right_from: int = 1) -> Table:
    """A table without lines; columns from number `right_from` on are flushed right."""
    table = Table(box=None, padding=(0, 0, 0, 1), header_style="bold", pad_edge=False)
    for number, heading in enumerate(headings):
        table.add_column(heading, justify="right" if number >= right_from else "left", no_wrap=True)
    return table
