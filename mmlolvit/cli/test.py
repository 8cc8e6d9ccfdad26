"""Test a checkpoint or an exported model of any task: ``tools/test.py CONFIG CKPT``."""

from collections.abc import Sequence
from pathlib import Path

from mmengine.config import Config
from mmengine.dist import is_main_process

from ..checkpoints import data_meta, read_checkpoint, require_equal
from ..datasets import ensure_embedded
from ..deploy.onnx import use_exported
from ..engine.secrecy import hide_urls
from ..errors import UserError
from .common import check_file, check_writable, exits, load_run, make_run_parser, take_checkpoint
from .data import check_data, dataset_nodes, find_datasets
from .distributed import leave
from .outputs import CollectPredictions, DrawPredictions, write_json
from .samples import GuardedRunner, check_order, find_base, find_labels


@exits
def main(argv: list[str] | None = None) -> None:
    parser = make_run_parser('Test a checkpoint, or what tools/export_onnx.py made of it.')
    take_checkpoint(parser, 'file or URL; FILE.onnx for an exported model')
    parser.add_argument('--show-dir', help='draw every prediction into this folder')
    parser.add_argument('--out', metavar='FILE.json', help='write metrics and predictions')
    parser.add_argument(
        '--tta', action='store_true', help="augment with the config's tta_model and tta_pipeline"
    )
    args = parser.parse_args(argv)
    if args.out and Path(args.out).suffix != '.json':
        parser.error(f'--out writes JSON: expected a name that ends in .json, got {args.out}')
    exported = Path(args.checkpoint).suffix == '.onnx'
    if exported and (args.tta or args.launcher != 'none'):
        parser.error('an exported model is tested in one process and without --tta')
    cfg, task = load_run(args, ('model', 'test_dataloader', 'test_cfg', 'test_evaluator'))
    if args.show_dir:
        check_writable(args.show_dir)
    if args.out:
        check_file(args.out)
    ensure_embedded(cfg)
    check_data(cfg, 'test_dataloader')
    if exported:
        use_exported(cfg, args.checkpoint)
    else:
        checkpoint = read_checkpoint(args.checkpoint)
        known = data_meta(checkpoint.get('meta') or {})
    if args.tta:
        use_tta(cfg)
    cfg.load_from, cfg.resume = None if exported else args.checkpoint, False

    runner = GuardedRunner.from_cfg(cfg)
    if exported:
        known = runner.model.metadata
        check_number(known['classes'], runner.test_loop.dataloader.dataset)
    else:
        require_equal(runner.model, checkpoint['state_dict'], args.checkpoint)
    check_order(tuple(known.get('classes') or ()), runner.test_loop.dataloader.dataset)
    if args.show_dir:
        runner.register_hook(DrawPredictions(task, args.show_dir))
    collected = CollectPredictions(task)
    if args.out:
        runner.test_evaluator.metrics.append(collected)
    metrics = runner.test()
    if args.out and is_main_process():
        content = dict(config=args.config, checkpoint=hide_urls(args.checkpoint), metrics=metrics)
        write_json(args.out, dict(content, predictions=collected.predictions))
    leave()


def check_number(classes: Sequence[str], dataset) -> None:
    """Raise UserError where an exported model has another number of classes than the data."""
    labels = find_labels(next(find_base(dataset)))
    if classes and labels and len(classes) != len(labels):
        raise UserError(f'the model has {len(classes)} classes, the data set {len(labels)}')


def use_tta(cfg: Config) -> None:
    """Test-time augmentation as the config has it."""
    if absent := [key for key in ('tta_model', 'tta_pipeline') if not cfg.get(key)]:
        raise UserError(f'--tta: the config has no {" and no ".join(absent)}')
    cfg.model = dict(cfg.tta_model, module=cfg.model)
    for _, dataset in find_datasets(dataset_nodes(cfg, ['test_dataloader'])):
        dataset.pipeline = cfg.tta_pipeline
