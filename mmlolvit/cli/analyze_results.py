"""What a model gets wrong: ``tools/analyze_results.py CONFIG PREDICTIONS.json``."""

import argparse
import json
import math
import os
import sys
from pathlib import Path

import mmcv
import numpy as np
from mmengine.registry import init_default_scope

from ..analysis.charts import draw_classes, draw_confusion, rank
from ..analysis.results import RESULTS, Results
from ..analysis.tables import make_table
from ..benchmark.report import write_whole
from ..datasets import ensure_embedded
from ..drawing import LINE, PAPER, SIDE, in_rgb, write
from ..errors import UserError
from ..tasks import plain
from ..zoo import load_config
from .check_dataset import build_for_loading
from .common import check_writable, exits, make_parser
from .data import check_data, dataset_nodes, find_datasets
from .outputs import SCORE_THR, write_json

PAIRS = 10  # of classes that are taken for each other, in the report
PRINTED = 20  # classes
KEYS = ('predictions', 'metrics')  # of a file of predictions


@exits
def main(argv: list[str] | None = None) -> None:
    args = parse(argv)
    cfg, task = load_config(args.config, args.cfg_options, ('test_dataloader', 'test_evaluator'))
    kind = RESULTS[task.scope]
    tested = read_tested(args.predictions, kind, args.config)
    check_writable(args.out)
    ensure_embedded(cfg)
    check_data(cfg, 'test_dataloader')
    init_default_scope(cfg.default_scope)
    dataset = build_test_set(cfg)
    compare(tested['predictions'], dataset, args)
    write_report(kind(cfg, dataset, tested['predictions']), task, tested['metrics'], args)


def write_report(results: Results, task, metrics: dict, args: argparse.Namespace) -> None:
    """Write tables and pictures, and print the totals beside what tools/test.py measured."""
    worst = rank(results.scores)[: args.worst]
    names = draw_worst(results, task, worst, args.out / 'worst')
    measures = dict(list(results.columns.items())[1:])
    write_whole(args.out / 'confusion.png', draw_confusion(results.matrix, results.labels))
    write_whole(args.out / 'classes.png', draw_classes(results.classes, measures, results.order))
    images = [
        dict(
            image=results.predictions[i]['image'],
            number=i,
            score=results.scores[i],
            wrong=results.describe(i),
            picture=f'worst/{name}',
        )
        for i, name in zip(worst, names, strict=True)
    ]
    report = dict(
        config=args.config,
        predictions=args.predictions,
        metrics=metrics,
        totals=results.totals,
        classes=results.classes,
        columns=results.columns,
        labels=results.labels,
        confusion=results.matrix,
        worst=images,
    )
    write_json(str(args.out / 'report.json'), report)
    write_whole(args.out / 'report.md', describe(results, report))
    print(tabulate_totals(report))
    print(tabulate_classes(results, PRINTED))
    print(f'report in {args.out / "report.md"}')
    warn(report)


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = make_parser(
        'What a model gets wrong, by class and by image, from what tools/test.py --out wrote.'
    )
    add = parser.add_argument
    add('predictions', help='the file of tools/test.py --out, of the same config')
    add('--out', metavar='DIR', type=Path, default='analysis', help='default: analysis')
    add('--worst', metavar='N', type=int, default=20, help='images to draw; default 20')
    args = parser.parse_args(argv)
    if args.worst < 0:
        parser.error(f'--worst expects 0 or more, got {args.worst}')
    return args


def read_tested(path: str, kind: type[Results], config: str) -> dict:
    """What tools/test.py wrote; raises UserError where it is damaged or not of this task."""
    command = f'write it with: python tools/test.py {config} CKPT --out predictions.json'
    if not Path(path).is_file():
        raise UserError(f'{path} does not exist; {command}')
    try:
        tested = json.loads(Path(path).read_bytes())
        found, metrics = map(tested.get, KEYS) if isinstance(tested, dict) else (None, None)
        metrics = plain(metrics)
    except (ValueError, RecursionError) as error:
        raise UserError(f'{path} is not JSON; {command}') from error
    if not isinstance(found, list) or not found or not isinstance(metrics, dict):
        raise UserError(f'{path} holds no metrics and predictions; {command}')
    for key, value in metrics.items():
        large = isinstance(value, int) and abs(value) > sys.float_info.max
        if large or isinstance(value, str) or not key.isprintable():
            raise UserError(f'{path}: expected a number as {key!r}, got {value!r:.80}; {command}')
    for number, image in enumerate(found):
        fields = image if isinstance(image, dict) else ()
        if absent := [key for key in ('image', *kind.fields) if key not in fields]:
            raise UserError(
                f'{path}: number {number} of its predictions lacks {", ".join(absent)}; '
                f'has it been made with a config of this task, and with labels? {command}'
            )
        scores = [image[key] for key in kind.fields if 'scores' in key]
        if any(None in values for values in scores if isinstance(values, list)):
            raise UserError(f'{path}: number {number} of its predictions has scores of NaN')
        wrong = kind.what_is_unfit(image)
        if not isinstance(image['image'], str | int | None):
            wrong = 'image', 'a path or a number'
        if wrong:
            key, expected = wrong
            raise UserError(
                f'{path}: number {number} of its predictions is damaged: expected as {key} '
                f'{expected}; got {image[key]!r:.80}; {command}'
            )
    return tested


def build_test_set(cfg):
    """The config's test set, which loads and does no more; raises UserError for several."""
    nodes = list(find_datasets(dataset_nodes(cfg, ['test_dataloader'])))
    if len(nodes) > 1:
        raise UserError(f'expected one test set, got {", ".join(key for key, _ in nodes)}')
    dataset = build_for_loading(nodes[0][1])
    if not dataset.metainfo.get('classes'):
        raise UserError(
            'the test set names no classes: add metainfo=dict(classes=(...)) to '
            'test_dataloader.dataset'
        )
    return dataset


def compare(predictions: list[dict], dataset, args: argparse.Namespace) -> None:
    """Raise UserError unless the predictions are those of the test set, in its order."""
    mend = 'give the config and --cfg-options that tools/test.py had'
    if len(predictions) != len(dataset):
        raise UserError(
            f'{args.predictions} has {len(predictions)} predictions, the test set of '
            f'{args.config} {len(dataset)} images; {mend}'
        )
    for number, image in enumerate(predictions):
        # Images that are drawn on demand have no names, nor have those of data sets of one file.
        named = hasattr(dataset, 'get_data_info')
        path = dataset.get_data_info(number).get('img_path') if named else None
        if name_of(image['image']) != name_of(path):
            raise UserError(
                f'number {number} of {args.predictions} is {image["image"]}, of the test set of '
                f'{args.config} {path}; {mend}'
            )


def name_of(path: str | int | None) -> str | None:
    return Path(path).name if isinstance(path, str) else None


def draw_worst(results: Results, task, worst: list[int], folder: Path) -> list[str]:
    """Draw images, in this order; their files, which take the place of an earlier call's."""
    for old in folder.glob('[0-9][0-9][0-9]_*.png'):
        old.unlink()
    visualizer = task.make_visualizer(results.cfg, dict(results.dataset.metainfo))
    names = []
    for place, index in enumerate(worst, 1):
        path = results.predictions[index]['image']
        if isinstance(path, str):
            info = results.dataset.get_data_info(index)
            image = mmcv.imread(info['img_path'], channel_order='rgb')
        else:
            image = in_rgb(results.dataset[index]['img'])
        sample = results.sample(index)
        image = enlarge_boxes(image, sample)
        picture = task.draw(visualizer, image, sample, SCORE_THR)
        picture = caption(picture, sample, results.describe(index))
        stem = Path(path).stem if isinstance(path, str) else f'{index:06d}'
        names.append(f'{place:03d}_{stem}.png')
        mmcv.imwrite(picture[..., ::-1], str(folder / names[-1]))
    return names


def caption(picture: np.ndarray, sample, text: str) -> np.ndarray:
    """A picture under a line of text."""
    if 'gt_sem_seg' in sample or len(sample.get('gt_instances', ())):
        text = f'truth | prediction: {text}'
    line = np.full((LINE, picture.shape[1], 3), PAPER, np.uint8)
    write(line, text, (8, LINE - 6))
    return np.concatenate((line, picture))


def enlarge_boxes(image: np.ndarray, sample) -> np.ndarray:
    """A small image by a whole factor, and the boxes and masks of its sample, for their names.

    Boxes end where the image does: no name can be drawn far outside of it.
    """
    height, width = image.shape[:2]
    factor = max(1, -(-2 * SIDE // min(height, width)))
    if 'pred_instances' not in sample:
        return image
    for part in (sample.pred_instances, sample.gt_instances):
        ends = part.bboxes.new_tensor([width, height] * 2)
        part.bboxes = part.bboxes.clamp(min=0).minimum(ends) * factor
        if 'masks' in part:
            part.masks = part.masks.repeat_interleave(factor, 1).repeat_interleave(factor, 2)
    return image.repeat(factor, axis=0).repeat(factor, axis=1)


def describe(results: Results, report: dict) -> str:
    """The report as Markdown."""
    where = os.path.basename(report['config'])
    lines = [
        f'# {Path(where).stem}: {len(results.predictions)} images of its test set',
        tabulate_totals(report),
        '## Classes\n\nThe worst first. ![Measures of each class](classes.png)',
        tabulate_classes(results),
        '## Taken for each other\n\n![Truth by prediction](confusion.png)',
        tabulate_pairs(results),
        '## Where it fails worst',
    ]
    rows = [
        (str(place), str(entry['image']), entry['wrong'], f'[drawn]({entry["picture"]})')
        for place, entry in enumerate(report['worst'], 1)
    ]
    lines.append(make_table(('', 'image', 'wrong', ''), rows) if rows else 'None was drawn.')
    text = '\n\n'.join(lines) + '\n'
    return text.encode(errors='replace').decode()  # names of files need not be Unicode


def tabulate_totals(report: dict) -> str:
    tested, here = report['metrics'], report['totals']
    rows = [(key, show(tested.get(key)), show(here.get(key))) for key in tested | here]
    return make_table(('metric', 'tools/test.py', 'here'), rows)


def tabulate_classes(results: Results, number: int | None = None) -> str:
    columns = results.columns
    rows = [
        (results.classes[i], *(show(values[i]) for values in columns.values()))
        for i in rank(columns[results.order])[:number]
    ]
    return make_table(('class', *columns), rows)


def tabulate_pairs(results: Results) -> str:
    """The classes that are taken for another one most, for their number; no false boxes."""
    number = len(results.classes)
    total = results.matrix[:number].sum(1, keepdims=True)
    shares = results.matrix[:number] / np.maximum(total, 1)
    np.fill_diagonal(shares, 0)
    rows = []
    for place in np.argsort(-shares, axis=None, kind='stable')[:PAIRS]:
        pair = np.unravel_index(place, shares.shape)
        if shares[pair]:
            names = [results.labels[label] for label in pair]
            rows.append((*names, str(results.matrix[pair]), f'{shares[pair]:.1%}'))
    return make_table(('truth', 'predicted', 'times', 'of the truth'), rows)


def show(value) -> str:
    value = plain(value)
    if not isinstance(value, int | float) or not math.isfinite(value):
        return '-'
    return str(value) if isinstance(value, int) else f'{value:.4g}'


def warn(report: dict) -> None:
    """Tell where a total is not what tools/test.py measured."""
    pairs = {k: (plain(value), report['metrics'].get(k)) for k, value in report['totals'].items()}
    other = [
        key
        for key, pair in pairs.items()
        if all(isinstance(value, int | float) for value in pair)
        and not math.isclose(*pair, rel_tol=1e-3, abs_tol=2e-3)
    ]
    if other:
        print(
            f'warning: {", ".join(other)}: not what tools/test.py measured; was the test set or '
            'the evaluator another one?',
            file=sys.stderr,
        )
