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
        title = cell['title'][0].upper() + cell['title'][1:]
        lines += ['', f'**{title}**', *table(cell, base).split('\n')[1:]]
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
    from matplotlib.figure import Figure
    from matplotlib.ticker import StrMethodFormatter

    cell = report['cells'][0]
    speeds = {name: cell['batch'] / result['seconds'] for name, result in _by_speed(cell)}
    parameters = {name: cell['results'][name]['parameters'] / 1e6 for name in speeds}
    accuracy = {name: PUBLISHED[name].top1 for name in speeds if name in PUBLISHED}
    figure = Figure(figsize=(13, 6.5), layout='constrained')
    left, right = figure.subplots(1, 2, sharey=True)
    for axes, places in ((left, parameters), (right, accuracy)):
        axes.set_yscale('log')
        for which in ('major', 'minor'):
            getattr(axes.yaxis, f'set_{which}_formatter')(StrMethodFormatter('{x:g}'))
        axes.grid(True, which='both', color='0.92')
        axes.margins(x=0.12, y=0.08)
        for name, x in places.items():
            style = dict(s=140, marker='*') if _is_ours(name) else dict(s=36)
            axes.scatter(x, speeds[name], color=_colour(name), zorder=3, **style)
    for name in filter(_is_ours, speeds):
        right.axhline(speeds[name], color=OURS, linestyle=':', linewidth=1)
    left.set_xlabel('parameters, millions')
    right.set_xlabel('published top-1 on ImageNet-1K, %, at the size of its paper')
    left.set_ylabel('images per second')
    environment = report['environment']
    figure.suptitle(
        f'{cell["title"]}: {environment.get("gpu") or environment["cpu"]}, '
        f'{environment["threads"]} threads, torch {environment["versions"]["torch"]}, '
        f'{environment["date"]}'
    )
    figure.draw_without_rendering()
    _write_names(left, [(name, x, speeds[name]) for name, x in parameters.items()])
    edge = right.get_xlim()[1]
    lines = [(name, edge, speeds[name]) for name in filter(_is_ours, speeds)]
    _write_names(right, [*lines, *((name, x, speeds[name]) for name, x in accuracy.items())])
    buffer = io.BytesIO()
    figure.savefig(buffer, format='png', dpi=110)
    return buffer.getvalue()


OURS, RIVALS = '#D55E00', '#0072B2'
# Where a name may stand beside its point, in points, the best first.
OFFSETS = [(x, y) for x in (7, -7) for y in (-3, 6, -12, 15, -21, 24, -30)]


def _is_ours(name: str) -> bool:
    return 'lolvit_' in name


def _colour(name: str) -> str:
    return OURS if _is_ours(name) else RIVALS


def _write_names(axes, points: list[tuple[str, float, float]]) -> None:
    """Names beside their points, where they meet no other name or point if there is room."""
    from matplotlib.transforms import Bbox

    places = axes.transData.transform([(x, y) for _, x, y in points])
    taken = [Bbox.from_extents(x - 5, y - 5, x + 5, y + 5) for x, y in places]
    for i, (name, x, y) in enumerate(points):
        on_line = x == axes.get_xlim()[1]
        text = f'{label(name)}: not trained on ImageNet' if on_line else label(name)
        for offset in OFFSETS:
            written = axes.annotate(
                text,
                (x, y),
                xytext=(-6, abs(offset[1])) if on_line else offset,
                textcoords='offset points',
                ha='right' if on_line or offset[0] < 0 else 'left',
                fontsize=8,
                color=OURS if _is_ours(name) else '0.2',
            )
            box = written.get_window_extent()
            inside = axes.bbox.x0 <= box.x0 and box.x1 <= axes.bbox.x1
            if inside and not any(box.overlaps(t) for t in (*taken[:i], *taken[i + 1 :])):
                break
            if offset != OFFSETS[-1]:
                written.remove()
        taken.append(box)


def label(name: str) -> str:
    """A model's name in tables: of a config that of its file."""
    return Path(name).stem if name.endswith('.py') else name


def _by_speed(cell: dict) -> list[tuple[str, dict]]:
    return sorted(cell['results'].items(), key=lambda item: -item[1]['seconds'])


def _ms(cell: dict, seconds: float) -> str:
    ms = seconds / cell['batch'] * 1e3
    return f'{ms:.2f}' if ms >= 1 else f'{ms:.3g}'


def _ratio(result: dict) -> str:
    return '-' if result['ratio'] is None else f'{result["ratio"]:.2f}'


def _row(*values: str) -> str:
    return f'| {" | ".join(values)} |'
