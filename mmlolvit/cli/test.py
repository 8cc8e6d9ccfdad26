"""Test a checkpoint of any task: ``tools/test.py CONFIG CKPT``."""

from pathlib import Path

from mmengine.config import Config
from mmengine.dist import is_main_process

from ..datasets import ensure_embedded
from ..errors import UserError
from .checkpoints import read_checkpoint, require_equal
from .common import check_writable, exits, load_run, make_run_parser
from .data import check_data
from .outputs import CollectPredictions, DrawPredictions, write_json
from .samples import GuardedRunner


@exits
def main(argv: list[str] | None = None) -> None:
    parser = make_run_parser('Test a checkpoint.')
    parser.add_argument('checkpoint', help='file or URL')
    parser.add_argument('--show-dir', help='draw every prediction into this folder')
    parser.add_argument('--out', metavar='FILE.json', help='write metrics and predictions')
    parser.add_argument(
        '--tta', action='store_true', help="augment with the config's tta_model and tta_pipeline"
    )
    args = parser.parse_args(argv)
    if args.out and Path(args.out).suffix != '.json':
        parser.error(f'--out writes JSON: expected a name that ends in .json, got {args.out}')
    cfg, task = load_run(args, ('model', 'test_dataloader', 'test_cfg', 'test_evaluator'))
    for folder in (args.show_dir, args.out and Path(args.out).parent):
        if folder:
            check_writable(folder)
    ensure_embedded(cfg)
    check_data(cfg, 'test_dataloader')
    weights = read_checkpoint(args.checkpoint)['state_dict']
    if args.tta:
        use_tta(cfg)
    if args.show_dir and not cfg.get('visualizer'):
        cfg.visualizer = dict(type=task.visualizer)
    cfg.load_from, cfg.resume = args.checkpoint, False

    runner = GuardedRunner.from_cfg(cfg)
    require_equal(runner.model, weights, args.checkpoint)
    if args.show_dir:
        runner.register_hook(DrawPredictions(task, args.show_dir))
    collected = CollectPredictions(task)
    if args.out:
        runner.test_evaluator.metrics.append(collected)
    metrics = runner.test()
    if args.out and is_main_process():
        content = dict(config=args.config, checkpoint=args.checkpoint, metrics=metrics)
        write_json(args.out, dict(content, predictions=collected.predictions))


def use_tta(cfg: Config) -> None:
    """Test-time augmentation as the config has it."""
    if absent := [key for key in ('tta_model', 'tta_pipeline') if not cfg.get(key)]:
        raise UserError(f'--tta: the config has no {" and no ".join(absent)}')
    cfg.model = dict(cfg.tta_model, module=cfg.model)
    dataset = cfg.test_dataloader.dataset
    while 'dataset' in dataset:
        dataset = dataset.dataset
    dataset.pipeline = cfg.tta_pipeline
