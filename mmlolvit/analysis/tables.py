"""Tables for the terminal and for Markdown."""

from collections.abc import Sequence


def make_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Markdown whose columns line up; the cells are text."""
    lines = [header, *rows]
    widths = [max(3, *map(len, column)) for column in zip(*lines, strict=True)]
    written = [
        ' | '.join(cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        for line in lines
    ]
    written.insert(1, ' | '.join('-' * width for width in widths))
    return '\n'.join(f'| {line} |' for line in written)
