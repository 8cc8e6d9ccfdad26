"""The tables and the picture of `tools/benchmark.py`, from the content of its JSON."""

import io
from pathlib import Path

from .published import PUBLISHED
from .report import describe

HEADER = (
    'model',
    'ms / image',
    'quartiles',
    'times {base}',
    'peak memory, MB',
    'parameters, M',
    'MACs, G',
    'activations, M',
    'layout',
)


def table(cell: dict, base: str) -> str:
    """One cell as a Markdown table, the fastest model last."""
    lines = [
        f'{cell["title"]}',
        '',
        _row(*HEADER).format(base=label(base)),
        _row(*['---'] * len(HEADER)),
    ]
    for name, result in _by_speed(cell):
        memory = result['memory']
        lines.append(
            _row(
                label(name),
                _ms(cell, result['seconds']),
                f'{_ms(cell, result["low"])} to {_ms(cell, result["high"])}',
                _ratio(result),
                '-' if memory is None else f'{memory / 2**20:.0f}',
                *(f'{result[key] / unit:.2f}' for key, unit in UNITS.items()),
                result['layout'],
            )
        )
    lines += [_row(label(name), f'failed: {reason}') for name, reason in cell['failed'].items()]
    return '\n'.join(lines)


UNITS = dict(parameters=1e6, macs=1e9, activations=1e6)


def markdown(report: dict) -> str:
    """The whole report: how it was measured, a table of all cells, then each cell."""
    base, cells = report['base'], report['cells']
    lines = [
        f'`{report["command"]}`',
        '',
        describe(report['environment']) + '.',
        '',
        f'Times the speed of {label(base)}, in brackets milliseconds an image: medians of rounds '
        'that take the models in turn.',
        '',
        _row('model', *(cell['title'] for cell in cells)),
        _row(*['---'] * (1 + len(cells))),
    ]
    names = dict.fromkeys(name for cell in cells for name in (*cell['results'], *cell['failed']))
    for name in names:
        row = []
        for cell in cells:
            result = cell['results'].get(name)
            row.append(f'{_ratio(result)} ({_ms(cell, result["seconds"])})' if result else 'failed')
        lines.append(_row(label(name), *row))
    if report['missing']:
        lines += ['', f'Not in the installed timm: {", ".join(report["missing"])}.']
    for cell in cells:
        lines += ['', f'**{cell["title"].capitalize()}**', *table(cell, base).split('\n')[1:]]
    sources = [
        f'- {name}: {figure.top1} % at {figure.size} px, {figure.source}'
        for name, figure in PUBLISHED.items()
        if name in names
    ]
    if sources:
        lines += ['', 'Published top-1 accuracy on ImageNet-1K, in the picture:', '', *sources]
    return '\n'.join(lines) + '\n'


def draw(report: dict) -> bytes:
    """PNG of the first cell: images per second over parameters and over published accuracy."""
    import matplotlib

    matplotlib.use('Agg')
    import matplotlib.pyplot as plt

    cell = report['cells'][0]
    speeds = {name: cell['batch'] / result['seconds'] for name, result in _by_speed(cell)}
    figure, (left, right) = plt.subplots(1, 2, figsize=(13, 6.5), sharey=True, layout='constrained')
    for axes, places in (
        (left, {name: cell['results'][name]['parameters'] / 1e6 for name in speeds}),
        (right, {name: PUBLISHED[name].top1 for name in speeds if name in PUBLISHED}),
    ):
        for is_ours, colour, marker in ((False, '#4c72b0', 'o'), (True, '#d55e00', '*')):
            chosen = [name for name in places if name.startswith('lolvit_') == is_ours]
            axes.scatter(
                [places[name] for name in chosen],
                [speeds[name] for name in chosen],
                s=140 if is_ours else 36,
                c=colour,
                marker=marker,
                zorder=3,
            )
        _label(axes, [(name, places[name], speeds[name]) for name in places])
        axes.set_yscale('log')
        axes.grid(True, which='both', color='0.92')
    for name in speeds:
        if name.startswith('lolvit_'):
            right.axhline(speeds[name], color='#d55e00', linestyle=':', linewidth=1)
            right.annotate(
                f'{name}: not trained on ImageNet',
                (0.99, speeds[name]),
                xycoords=right.get_yaxis_transform(),
                ha='right',
                va='bottom',
                fontsize=8,
                color='#d55e00',
            )
    left.set_xlabel('parameters, millions')
    right.set_xlabel('published top-1 on ImageNet-1K, %, at the size of its paper')
    left.set_ylabel('images per second')
    environment = report['environment']
    figure.suptitle(
        f'{cell["title"]}: {environment.get("gpu") or environment["cpu"]}, '
        f'{environment["threads"]} threads, torch {environment["versions"]["torch"]}, '
        f'{environment["date"]}'
    )
    buffer = io.BytesIO()
    figure.savefig(buffer, format='png', dpi=110)
    plt.close(figure)
    return buffer.getvalue()


def _label(axes, points: list[tuple[str, float, float]]) -> None:
    """Names beside their points, moved apart where they would meet."""
    axes.margins(x=0.16, y=0.08)
    for i, (name, x, y) in enumerate(sorted(points, key=lambda point: point[2])):
        above = i % 2
        axes.annotate(
            label(name),
            (x, y),
            xytext=(5, 4 if above else -9),
            textcoords='offset points',
            fontsize=8,
            color='#d55e00' if name.startswith('lolvit_') else '0.2',
        )


def label(name: str) -> str:
    """A model's name in tables: of a config that of its file."""
    return Path(name).stem if name.endswith('.py') else name


def _by_speed(cell: dict) -> list[tuple[str, dict]]:
    return sorted(cell['results'].items(), key=lambda item: -item[1]['seconds'])


def _ms(cell: dict, seconds: float) -> str:
    return f'{seconds / cell["batch"] * 1e3:.2f}'


def _ratio(result: dict) -> str:
    return '-' if result['ratio'] is None else f'{result["ratio"]:.2f}'


def _row(*values: str) -> str:
    return f'| {" | ".join(values)} |'
