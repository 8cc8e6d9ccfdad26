"""What the runs of an ablation come to: one table, as Markdown, CSV and a picture."""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev

import matplotlib.pyplot as plt
from mmengine.registry import DATASETS, init_default_scope

from ..analysis.tables import make_table
from ..benchmark.report import describe, environment
from ..benchmark.speed import Cell, measure
from ..cli.data import first_dataset
from ..datasets import ensure_embedded
from ..zoo import read_config
from .runs import Run
from .variants import Variant

ROUNDS = 15
LEGEND = (
    "The spread is the standard deviation over seeds. Bold: the mean differs from the base's by "
    'more than both spreads together.'
)
METRICS = {'coco/bbox_mAP': 'box mAP', 'accuracy/top1': 'top-1, %', 'mIoU': 'mIoU, %'}


@dataclass
class Row:
    """A variant of a config: what each seed had, and what an image costs."""

    config: str
    variant: Variant
    metric: str
    values: list[float]
    failed: list[str]
    cost: dict

    @property
    def mean(self) -> float | None:
        return mean(self.values) if self.values else None

    @property
    def spread(self) -> float | None:
        """The standard deviation over seeds."""
        return stdev(self.values) if len(self.values) > 1 else None


def collect(runs: Sequence[Run], threads: int) -> list[Row]:
    """The rows of the runs, with what is measured of them now, the variants of a config in turn."""
    groups = {}
    for run in runs:
        groups.setdefault(run.config, {}).setdefault(run.variant, []).append(run)
    rows = []
    for config, variants in groups.items():
        files = {variant: str(same[0].file) for variant, same in variants.items()}
        costs = measure_costs(list(files.values()), threads)
        for variant, same in variants.items():
            values = [run.result for run in same if run.result is not None]
            failed = [f'seed {run.seed} {run.failed}' for run in same if run.failed]
            cost = costs.get(files[variant], {})
            rows.append(Row(config, variant, same[0].metric, values, failed, cost))
    return rows


def measure_costs(files: list[str], threads: int) -> dict[str, dict]:
    """Parameters, multiply-adds and seconds of one test image, by config; on the CPU, folded."""
    cell = Cell('eager', 'cpu', 'fp32', 'inference', 1, image_size(files[0]))
    measure(files, [cell], ROUNDS, threads)
    return cell.results


def image_size(file: str) -> tuple[int, int]:
    """Height and width of the first image of a config's test set, as the model takes it."""
    cfg = read_config(file)
    init_default_scope(cfg.default_scope)
    ensure_embedded(cfg)
    sample = DATASETS.build(first_dataset(cfg, 'test_dataloader'))[0]
    return tuple(sample['inputs'].shape[1:])


def markdown(rows: Sequence[Row], command: str) -> str:
    """A table for each config, the command, and where it was measured."""
    lines = [f'`{command}`', '', describe(environment('cpu')) + '.', '', LEGEND]
    for config in dict.fromkeys(row.config for row in rows):
        part = [row for row in rows if row.config == config]
        seeds = max(len(row.values) for row in part)
        header = [
            'variant',
            'what it changes',
            f'{METRICS[part[0].metric]}, mean of {seeds}',
            'spread',
            'each seed',
            'against base',
            'parameters, M',
            'MACs, G',
            'ms / image',
        ]
        cells = [[row.variant.name, row.variant.words, *_numbers(row, part[0])] for row in part]
        lines += ['', f'**{config}**', '', make_table(header, cells)]
        lines += [f'- {row.variant.name}: {text}' for row in part for text in row.failed]
    return '\n'.join(lines) + '\n'


def _numbers(row: Row, base: Row) -> list[str]:
    digits = 3 if row.metric == 'coco/bbox_mAP' else 1
    value, spread, seeds, difference = ['-'] * 4
    if row.values:
        value = f'{row.mean:.{digits}f}'
        seeds = ' '.join(f'{value:.{digits}f}' for value in row.values)
        if row.spread is not None:
            spread = f'{row.spread:.{digits}f}'
        if row is not base and base.values:
            difference = f'{row.mean - base.mean:+.{digits}f}'
            if differs(row, base):
                difference = f'**{difference}**'
    cost = ['-'] * 3
    if row.cost:
        cost = [
            f'{row.cost[key] / unit:.{d}f}'
            for key, unit, d in (('parameters', 1e6, 2), ('macs', 1e9, 3), ('seconds', 1e-3, 2))
        ]
    return [value, spread, seeds, difference, *cost]


def differs(row: Row, base: Row) -> bool:
    """Whether the means are further apart than both spreads together."""
    spreads = row.spread, base.spread
    return None not in spreads and abs(row.mean - base.mean) > sum(spreads)


def as_csv(rows: Sequence[Row]) -> str:
    """A line for each variant of each config, with the value of every seed."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator='\n')
    writer.writerow(
        ['config', 'variant', 'metric', 'mean', 'spread', 'values', 'parameters', 'macs', 'seconds']
    )
    for row in rows:
        values = ' '.join(f'{value:g}' for value in row.values)
        cost = [row.cost.get(key) for key in ('parameters', 'macs', 'seconds')]
        name = row.variant.name
        writer.writerow([row.config, name, row.metric, row.mean, row.spread, values, *cost])
    return text.getvalue()


def draw(rows: Sequence[Row], path: Path) -> None:
    """A panel for each config: a dot for each seed, a bar for their mean, the base as a line."""
    configs = list(dict.fromkeys(row.config for row in rows))
    most = max(sum(row.config == config for row in rows) for config in configs)
    figure, panels = plt.subplots(
        1,
        len(configs),
        figsize=(4 * len(configs) + 1, 0.35 * most + 1.2),
        squeeze=False,
        layout='constrained',
    )
    for panel, config in zip(panels[0], configs, strict=True):
        part = [row for row in rows if row.config == config]
        places = range(len(part), 0, -1)
        for place, row in zip(places, part, strict=True):
            panel.plot(row.values, [place] * len(row.values), 'o', ms=4, color='#0072b2', alpha=0.6)
            if row.values:
                panel.plot([row.mean], [place], '|', ms=14, mew=2, color='#d55e00')
        if part[0].values:
            panel.axvline(part[0].mean, color='#d55e00', lw=0.8, ls=':')
        panel.set_yticks(places, [row.variant.name for row in part])
        panel.set_title(Path(config).stem, fontsize=9)
        panel.set_xlabel(METRICS[part[0].metric])
        panel.grid(axis='x', color='#e6e6e6')
        panel.set_axisbelow(True)
    figure.savefig(path, dpi=110)
    plt.close(figure)
