"""Draws fwa.png: `python docs/images/draw_fwa.py`."""

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.patches import ConnectionPatch, Rectangle
from sklearn.datasets import load_digits

SIDE, WINDOW = 16, 4  # the map and, ceil(sqrt(16)), its windows
GRID = SIDE // WINDOW
SHOWN = 1, 1  # the window that is followed
GREEN = '#1b9e77'
QUERIES = {(2, 13): '#d95f02', (12, 3): '#7b3fa0'}  # row, column: colour

rng = np.random.default_rng(7)
x = np.kron(load_digits().images[3] / 16, np.ones((2, 2)))
x = (x + np.roll(x, 1, 0) + np.roll(x, 1, 1) + np.roll(x, -1, 1)) / 4
t = x.reshape(GRID, WINDOW, GRID, WINDOW).max(axis=(1, 3)).reshape(-1, 1)
scores = 1 + (x - 0.4).reshape(-1, 1) * (t - 0.6).T * 6  # made up, as are those of the lines
y = (np.maximum(0, scores) @ t / len(t)).reshape(x.shape)

figure, (left, middle, right) = plt.subplots(
    1, 3, figsize=(13, 6), width_ratios=(1, 0.34, 1), layout='constrained'
)
figure.get_layout_engine().set(wspace=0.16, h_pad=0.12)


def show(axes, image, title, text, lines):
    (rows, columns), width = image.shape, 2.5 if image.shape[1] == 1 else 1
    axes.imshow(image, extent=(0, columns * width, rows, 0), cmap='Blues', vmin=-0.15, vmax=1.3)
    axes.set_title(title, fontsize=14, weight='bold', pad=10)
    axes.set_xlabel(text, fontsize=12, labelpad=8, linespacing=1.4)
    axes.set(xticks=[], yticks=[])
    for step, style in lines.items():
        axes.hlines(np.arange(0, rows + 1, step), 0, columns * width, **style)
        if columns > 1:
            axes.vlines(np.arange(0, columns + 1, step), 0, rows, **style)


def connect(a, start, b, end, **style):
    figure.add_artist(ConnectionPatch(start, end, 'data', 'data', axesA=a, axesB=b, **style))


thin, thick = dict(color='white', lw=0.5), dict(color='black', lw=1.6)
show(
    left,
    x,
    'The map X',
    f'{SIDE} x {SIDE}: N = {SIDE**2} positions, each with a query\n'
    f'windows of ceil(sqrt({SIDE})) = {WINDOW} positions a side',
    {1: thin, WINDOW: thick},
)
show(
    middle,
    t,
    'The windows T',
    f'M = {len(t)} = sqrt(N)\nkeys and values:\nmaximum of each window',
    {1: thick},
)
show(
    right,
    y / y.max(),
    'The output Y',
    'N positions: each the sum of all M windows,\n'
    'weighed by relu(1 + query $\\cdot$ key / $\\sqrt{d}$) / M',
    {1: thin},
)

row, column = SHOWN
cell = row * GRID + column
green = dict(fill=False, ec=GREEN, lw=4, zorder=5)
left.add_patch(Rectangle((column * WINDOW, row * WINDOW), WINDOW, WINDOW, **green))
middle.add_patch(Rectangle((0, cell), 2.5, 1, **green))
for corner in (0, 1):
    start = (column + 1) * WINDOW, (row + corner) * WINDOW
    connect(left, start, middle, (0, cell + corner), color=GREEN, lw=1.5, ls='--')

for (row, column), colour in QUERIES.items():
    for axes in (left, right):
        axes.add_patch(Rectangle((column, row), 1, 1, fc=colour, ec='black', lw=1.2, zorder=5))
    for i, weight in enumerate(np.maximum(0, 1 + 1.3 * rng.standard_normal(len(t)))):
        if weight:
            style = dict(color=colour, lw=0.4 + 1.1 * weight, alpha=0.55)
            connect(middle, (2.5, i + 0.5), right, (column + 0.5, row + 0.5), **style)
for text, (row, column) in zip(('a query', 'another query'), QUERIES, strict=True):
    left.text(
        column + 0.5,
        row + 1.8,
        text,
        ha='center',
        fontsize=12,
        color=QUERIES[row, column],
        weight='bold',
        bbox=dict(fc='white', ec='none', alpha=0.75, pad=1),
    )

plt.savefig(Path(__file__).with_name('fwa.png'), dpi=110)
