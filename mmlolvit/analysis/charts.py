"""Pictures of what predictions get right and wrong, as PNG."""

import io
from collections.abc import Sequence

import numpy as np
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure

NAMED, NUMBERED, LISTED = 100, 20, 60  # classes: with names; with numbers too; with a line each


def draw_confusion(matrix: np.ndarray, labels: Sequence[str]) -> bytes:
    """Counts of the truth (rows) by prediction; the colour is the share of the row."""
    number = len(labels)
    total = matrix.sum(1, keepdims=True)
    shares = np.divide(matrix, total, out=np.zeros(matrix.shape), where=total > 0)
    side = min(max(4, 0.55 * number), 18 if number > 40 else 11)
    figure = Figure(figsize=(side + 2, side + 1), layout='constrained')
    axes = figure.subplots()
    # The square root lets single mistakes be seen.
    image = axes.imshow(shares, cmap='Blues', norm=PowerNorm(0.5, 0, 1))
    bar = figure.colorbar(image, ax=axes, shrink=0.8, format='{x:.0%}')
    bar.set_ticks([0, 0.01, 0.05, 0.2, 0.5, 1])
    bar.set_label('of the truth')
    axes.set_xlabel('predicted')
    axes.set_ylabel('truth')
    axes.xaxis.set_label_position('top')
    axes.tick_params(top=True, labeltop=True, bottom=False, labelbottom=False)
    if number <= NAMED:
        size = 9 if number <= 40 else 7
        upright = max(map(len, labels)) > 3
        axes.set_xticks(range(number), labels, rotation=90 if upright else 0, fontsize=size)
        axes.set_yticks(range(number), labels, fontsize=size)
    if number <= NUMBERED:
        counted = matrix.max() < 10000
        if not counted:
            axes.set_title('numbers: % of the truth', loc='left', fontsize=9)
        for (i, j), count in np.ndenumerate(matrix):
            if count:
                text = str(count) if counted else write_percent(shares[i, j])
                color = 'white' if shares[i, j] > 0.4 else 'black'
                axes.text(j, i, text, ha='center', va='center', color=color, fontsize=8)
    return write_png(figure)


def draw_classes(classes: Sequence[str], columns: dict[str, np.ndarray], order: str) -> bytes:
    """A line for each class with a mark for each column, by one of them, the worst on top."""
    shown = rank(columns[order])[:LISTED]
    figure = Figure(figsize=(8, 1.2 + 0.24 * len(shown)), layout='constrained')
    axes = figure.subplots()
    places = np.arange(len(shown))
    values = np.stack([columns[name][shown] for name in columns])
    there = np.isfinite(values).any(0)
    for place in places[there]:
        line = values[:, place][np.isfinite(values[:, place])]
        axes.plot([line.min(), line.max()], [place] * 2, color='0.8', zorder=1)
    for row, name, marker in zip(values, columns, 'os^Dvx', strict=False):
        axes.plot(row, places, marker, markersize=6, alpha=0.85, label=name)
    axes.set_yticks(places, [classes[i] for i in shown], fontsize=9)
    axes.set_ylim(len(shown) - 0.4, -0.6)
    axes.grid(True, axis='x', color='0.92')
    title = f', the worst {LISTED} of {len(classes)} classes' if len(classes) > LISTED else ''
    axes.set_title(f'by {order}{title}', loc='left', fontsize=10)
    axes.legend(loc='upper left', bbox_to_anchor=(1.005, 1.0), frameon=False, fontsize=9)
    return write_png(figure)


def rank(values: np.ndarray) -> list[int]:
    """Indices from the least to the most; what is no number comes last."""
    return np.argsort(np.where(np.isnan(values), np.inf, values), kind='stable').tolist()


def write_percent(share: float) -> str:
    return f'{100 * share:.0f}' if share >= 0.005 else ''


def write_png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format='png', dpi=100)
    return buffer.getvalue()
