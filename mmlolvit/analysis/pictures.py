"""Pictures of looks inside a model, as PNG."""

from collections.abc import Sequence

import cv2
import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap, LogNorm
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke
from matplotlib.ticker import MaxNLocator

from .attention import ImageAttention
from .charts import write_png
from .field import smallest_square
from .gradcam import GradCAM
from .schedule import Schedule

MARK = '#0077ff'
# No weight leaves the image as it is.
HEAT = ListedColormap(
    np.concatenate(
        (colormaps['YlOrRd'](np.linspace(0.15, 1, 256))[:, :3], np.linspace(0, 0.7, 256)[:, None]),
        axis=1,
    )
)
WRITTEN = 64  # windows with their weights as numbers
SHARES = (0.5, 0.95)  # of the gradient, in squares around the center of a receptive field
DECADES = 4  # below the largest gradient


def draw_attention(
    image: np.ndarray, blocks: dict[str, ImageAttention], pixels: Sequence[tuple[int, int]]
) -> bytes:
    """A row for each pixel (x, y), a column for each FWA; heat over the image, (H, W, 3) BGR.

    A column has one scale of colours, from 0 to the largest weight in it.
    """
    height, width = image.shape[:2]
    tall = min(max(height / width, 0.2), 3)
    size = 4.4 * len(blocks), (3.6 * tall + 0.35) * len(pixels) + 0.9
    figure = Figure(figsize=size, layout='constrained')
    grid = figure.subplots(len(pixels), len(blocks), squeeze=False)
    gray = pale(image)
    for column, (name, block) in zip(grid.T, blocks.items(), strict=True):
        weights = [block.at(*pixel) for pixel in pixels]
        top = np.max(weights) or 1
        for axes, (x, y), heat in zip(column, pixels, weights, strict=True):
            show_image(axes, gray)
            mesh = axes.pcolormesh(
                *block.window_edges, heat, cmap=HEAT, vmin=0, vmax=top, edgecolors='black',
                linewidth=0.8, antialiased=True,
            )  # fmt: skip
            if heat.size <= WRITTEN:
                write_weights(axes, block.window_edges, heat)
            (left, right), (upper, lower) = (
                edges[index : index + 2]
                for edges, index in zip(
                    block.position_edges, block.find_position(x, y), strict=True
                )
            )
            axes.add_patch(
                Rectangle(
                    (left, upper), right - left, lower - upper, fill=False, edgecolor=MARK, lw=2
                )
            )
            axes.plot(x + 0.5, y + 0.5, '+', color=MARK, markersize=9, markeredgewidth=1.8)
            axes.set_title(f'pixel {x} {y}: weights sum to {heat.sum():.2f}', fontsize=8)
        mh, mw, h, w = block.weights.shape
        column[0].set_title(
            f'{name}\n{mh} x {mw} windows of a map of {h} x {w}\n{column[0].get_title()}',
            fontsize=8,
        )
        figure.colorbar(mesh, ax=list(column), shrink=0.7, aspect=30, pad=0.02)
    return write_png(figure)


def draw_grad_cam(image: np.ndarray, cam: GradCAM, classes: Sequence[str]) -> bytes:
    """The image, (H, W, 3) BGR, and what in it speaks for a class, as heat over it."""
    names = [str(classes[i]) if i < len(classes) else str(i) for i in (cam.label, cam.predicted)]
    tall = min(max(image.shape[0] / image.shape[1], 0.2), 3)
    figure = Figure(figsize=(8.6, 3.9 * tall + 0.7), layout='constrained')
    left, right = figure.subplots(1, 2)
    rgb = image[..., ::-1]
    show_image(left, rgb)
    left.set_title(f'predicted: {names[1]}', fontsize=10)
    show_image(right, pale(image))
    top = cam.heat.max()
    heat = right.imshow(
        cam.heat / (top or 1), cmap=HEAT, vmin=0, vmax=1, extent=cam.extent,
        interpolation='bilinear',
    )  # fmt: skip
    right.set(xlim=(0, image.shape[1]), ylim=(image.shape[0], 0))
    nothing = '' if top else '; nothing speaks for it'
    right.set_title(f'for {names[0]}, score {cam.score:.1%}{nothing}', fontsize=10)
    bar = figure.colorbar(heat, ax=right, shrink=0.8)
    bar.set_label('of the largest', fontsize=8)
    return write_png(figure)


def draw_field(field: np.ndarray, title: str) -> bytes:
    """A receptive field (H, W) in powers of ten, with the squares that hold shares of it."""
    height, width = field.shape
    figure = Figure(
        figsize=(5.6, 4.4 * min(max(height / width, 0.3), 2) + 0.9), layout='constrained'
    )
    axes = figure.subplots()
    top = field.max() or 1.0
    heat = axes.imshow(
        np.maximum(field / top, 10.0**-DECADES), cmap='inferno',
        norm=LogNorm(10.0**-DECADES, 1), extent=(0, width, height, 0),
    )  # fmt: skip
    told = []
    for share, style in zip(SHARES, ('-', '--'), strict=True):
        left, upper, side = smallest_square(field, share)
        told.append(f'{share:.0%} in a square of {side} px')
        axes.add_patch(
            Rectangle((left, upper), side, side, fill=False, edgecolor='cyan', linestyle=style)
        )
    axes.set(xlim=(0, width), ylim=(height, 0))
    axes.set_title(f'{title}\nof the gradient: {", ".join(told)}', fontsize=8)
    figure.colorbar(heat, ax=axes, shrink=0.85).set_label('of the largest gradient', fontsize=9)
    return write_png(figure)


def draw_schedule(schedule: Schedule, title: str) -> bytes:
    """The learning rate and, where it changes, the momentum over epochs or iterations."""
    rows = [('learning rate', schedule.lr)]
    if np.ptp(schedule.momentum, axis=0).max() > 0:
        rows.append(('momentum', schedule.momentum))
    figure = Figure(figsize=(9, 0.8 + 2.9 * len(rows)), layout='constrained')
    grid = figure.subplots(len(rows), 1, sharex=True, squeeze=False)[:, 0]
    unit = schedule.per_epoch or 1
    for axes, (name, values) in zip(grid, rows, strict=True):
        steps = np.arange(len(values))
        for i, tensors in enumerate(schedule.tensors):
            total = sum(schedule.tensors)
            which = f'{tensors} of {total} tensors: ' if tensors < total else ''
            label = f'{which}{values[:, i].min():.3g} to {values[:, i].max():.3g}'
            axes.plot(steps / unit, values[:, i], linewidth=1.5, label=label)
        axes.set_title(name, loc='left', fontsize=10)
        axes.grid(True, color='0.92')
        axes.margins(x=0.02)
        axes.legend(fontsize=9, frameon=False)
    grid[-1].xaxis.set_major_locator(MaxNLocator(integer=True))
    grid[-1].set_xlabel('epoch' if schedule.per_epoch else 'iteration')
    figure.suptitle(title, fontsize=10)
    return write_png(figure)


def pale(image: np.ndarray) -> np.ndarray:
    """An image (H, W, 3) BGR in light grey, for heat to be seen over it."""
    gray = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)
    return (100 + gray[..., None].repeat(3, axis=2) * 0.6).astype(np.uint8)


def write_weights(axes: Axes, edges: tuple[np.ndarray, np.ndarray], heat: np.ndarray) -> None:
    """Each weight (Mh, Mw) as a number in its window."""
    xs, ys = (  # of what is seen of the windows
        np.clip(side, 0, max(limits))
        for side, limits in zip(edges, (axes.get_xlim(), axes.get_ylim()), strict=True)
    )
    for (row, column), weight in np.ndenumerate(heat):
        place = (xs[column] + xs[column + 1]) / 2, (ys[row] + ys[row + 1]) / 2
        axes.text(
            *place, f'{weight:.2g}', ha='center', va='center', fontsize=7,
            path_effects=[withStroke(linewidth=2, foreground='white')],
        )  # fmt: skip


def show_image(axes: Axes, image: np.ndarray) -> None:
    """With pixel i from i to i + 1."""
    height, width = image.shape[:2]
    axes.imshow(image, extent=(0, width, height, 0), interpolation='nearest')
    axes.set(xlim=(0, width), ylim=(height, 0), xticks=[], yticks=[])
