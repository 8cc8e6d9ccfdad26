"""Pictures of a model and of its training: ``tools/visualize.py {attention,...} CONFIG``."""

import argparse
from importlib.util import find_spec
from pathlib import Path

import cv2
import numpy as np
import torch
from mmengine.config import Config
from mmengine.logging import MMLogger
from mmengine.registry import DATASETS, init_default_scope
from mmengine.runner import set_random_seed

from ..analysis.attention import image_attention
from ..analysis.field import receptive_field
from ..analysis.gradcam import grad_cam
from ..analysis.pictures import draw_attention, draw_field, draw_grad_cam, draw_schedule
from ..analysis.schedule import run_schedule
from ..benchmark.report import write_whole
from ..datasets import ensure_embedded
from ..deploy.graphs import mean_and_std, swaps_channels
from ..doctor import install, installed_distributions
from ..drawing import make_sheet
from ..errors import UserError, did_you_mean
from ..images import require_file, why_unreadable
from ..inference import Predictor, build_model, load, load_model
from ..tasks import Task
from ..zoo import load_config
from .common import (
    Parser,
    check_file,
    exits,
    make_parser,
    read_size,
    require_at_least,
    take_checkpoint,
)
from .data import check_data
from .samples import find_base, find_labels, guard
from .train import check_optimizer, use_cpu_amp

NOISE = 16  # images


@exits
def main(argv: list[str] | None = None) -> None:
    args = parse(argv)
    check_file(args.out)
    write_whole(args.out, args.draw(args))
    print(f'picture in {args.out}')


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = Parser(description='Pictures of a model and of its training, as PNG.')
    commands = parser.add_subparsers(required=True, metavar='COMMAND')

    def command(name: str, draw, text: str) -> argparse.ArgumentParser:
        # `resolve`: the help of the parent is replaced.
        part = commands.add_parser(
            name, help=text, description=text, parents=[make_parser('')], conflict_handler='resolve'
        )
        part.add_argument(
            '--out', type=Path, default=f'{name}.png', metavar='F.png', help=f'default: {name}.png'
        )
        part.set_defaults(draw=draw)
        return part

    def takes_image(part: argparse.ArgumentParser) -> None:
        take_checkpoint(part)
        part.add_argument('image')

    part = command('attention', show_attention, 'which windows FWA reads at a pixel of an image')
    takes_image(part)
    part.add_argument(
        '--pixel', nargs='+', type=int, metavar=('X', 'Y'),
        help='one or more, in px of the image; default: its center',
    )  # fmt: skip
    part = command('gradcam', show_grad_cam, 'what in an image speaks for a class (Grad-CAM)')
    takes_image(part)
    part.add_argument('--label', help='name or number of the class; default: the predicted one')
    part = command(
        'field', show_field, "effective receptive field of the center of the backbone's last map"
    )
    part.add_argument('checkpoint', nargs='?', help='file or URL; default: random weights')
    part.add_argument(
        '--size', nargs='+', type=int, default=[256], help='side, or height and width; default 256'
    )
    part.add_argument(
        '--images', nargs='+', metavar='IMAGE',
        help=f'what to average over, resized; default: {NOISE} images of noise',
    )  # fmt: skip
    part = command('samples', show_samples, 'training images as the training pipeline makes them')
    part.add_argument('--number', type=int, default=16, help='default 16')
    command('schedule', show_schedule, 'learning rate and momentum over the whole training')

    args = parser.parse_args(argv)
    if args.out.suffix != '.png':
        parser.error(f'--out expects a name that ends in .png, got {args.out}')
    if 'pixel' in args and len(args.pixel or ()) % 2:
        parser.error(f'--pixel expects X Y, or several pairs of them, got {args.pixel}')
    if 'size' in args:
        args.size = read_size(parser, args.size)
    if 'number' in args:
        require_at_least(parser, args, number=1)
    return args


def load_weights(args: argparse.Namespace) -> Predictor:
    """As `mmlolvit.load`; raises UserError for an exported model, whose inside cannot be seen."""
    if Path(args.checkpoint).suffix == '.onnx':
        raise UserError(
            f'{args.checkpoint} is an exported model, the inside of which cannot be seen: '
            'expected the checkpoint that it was made from'
        )
    return load(args.config, args.checkpoint, cfg_options=args.cfg_options)


def show_attention(args: argparse.Namespace) -> bytes:
    predictor = load_weights(args)
    image = predictor.read(args.image)['img']
    height, width = image.shape[:2]
    values = args.pixel or [width // 2, height // 2]
    pixels = list(zip(values[::2], values[1::2], strict=True))
    for x, y in pixels:
        if not (0 <= x < width and 0 <= y < height):
            raise UserError(
                f'--pixel {x} {y} is outside of {args.image}: '
                f'expected X of 0 to {width - 1} and Y of 0 to {height - 1}'
            )
    return draw_attention(image, image_attention(predictor, image), pixels)


def show_grad_cam(args: argparse.Namespace) -> bytes:
    if not find_spec('captum'):
        command = install('captum', installed_distributions())
        raise UserError(f'gradcam: captum is not installed: {command}')
    predictor = load_weights(args)
    classes = predictor.meta['classes']
    label = None if args.label is None else find_label(args.label, classes)
    image = predictor.read(args.image)['img']
    return draw_grad_cam(image, grad_cam(predictor, image, label), classes)


def find_label(text: str, classes: tuple[str, ...]) -> int:
    """The number of the class of a name or a number; raises UserError."""
    if text in classes:
        return classes.index(text)
    if text.isdecimal():
        return int(text)
    known = {str(name).lower(): str(name) for name in classes}
    raise UserError(
        f'--label {text}: the model knows no such class'
        + (did_you_mean(text, known) or '; expected a name or a number of its classes')
    )


def show_field(args: argparse.Namespace) -> bytes:
    cfg, _ = load_config(args.config, args.cfg_options, ('model',))
    set_random_seed(0)
    if args.checkpoint:
        model, _ = load_model(cfg, args.checkpoint)
        weights = Path(args.checkpoint).name
    else:
        model, weights = build_model(cfg), 'random weights'
        model.init_weights()
    backbone = getattr(model, 'backbone', None)
    if backbone is None:
        raise UserError(f'the model of {args.config}, a {type(model).__name__}, has no backbone')
    height, width = args.size
    if args.images:
        images = [read_normalized(path, args.size, model.data_preprocessor) for path in args.images]
    else:
        channels = cfg.model.backbone.get('in_channels', 3)
        images = torch.randn(NOISE, channels, height, width)
    field = receptive_field(backbone, images)
    over = f'{len(images)} images' if args.images else f'{NOISE} images of noise'
    title = f'{Path(args.config).stem}, {weights}, {height} x {width}, over {over}'
    return draw_field(field, title)


def read_normalized(path: str, size: tuple[int, int], preprocessor) -> torch.Tensor:
    try:
        require_file(path)
        image = cv2.imread(path)
    except (OSError, cv2.error):  # the latter of one with too many pixels
        image = None
    if image is None:
        raise UserError(f'{path} cannot be read as an image: {why_unreadable(path)}')
    image = cv2.resize(image, size[::-1], interpolation=cv2.INTER_AREA)
    if swaps_channels(preprocessor):
        image = image[..., ::-1]
    mean, std = mean_and_std(preprocessor)
    return (torch.from_numpy(image.transpose(2, 0, 1).astype(np.float32)) - mean) / std


def show_samples(args: argparse.Namespace) -> bytes:
    cfg, task = load_config(args.config, args.cfg_options, ('model', 'train_dataloader'))
    ensure_embedded(cfg)
    check_data(cfg, 'train_dataloader')
    set_random_seed(0)
    return write_sheet(draw_samples(cfg, task, args.number))


def draw_samples(cfg: Config, task: Task, number: int) -> list[np.ndarray]:
    """So many training samples at random, fewer where there are not as many, each a picture."""
    init_default_scope(cfg.default_scope)
    dataset = DATASETS.build(cfg.train_dataloader.dataset)
    for base in find_base(dataset):
        guard(base, cfg)
    meta = dict(getattr(dataset, 'metainfo', {}))
    visualizer = task.make_visualizer(
        cfg, dict(meta, classes=find_labels(next(find_base(dataset))))
    )
    pictures = []
    for index in np.random.permutation(len(dataset))[:number].tolist():
        sample = dataset[index]
        image = sample['inputs'].clamp(0, 255).byte().numpy().transpose(1, 2, 0)[..., ::-1]
        pictures.append(task.draw(visualizer, image, sample['data_samples'], 0.0))
    return pictures


def write_sheet(pictures: list[np.ndarray]) -> bytes:
    return cv2.imencode('.png', make_sheet(pictures)[..., ::-1])[1].tobytes()


def show_schedule(args: argparse.Namespace) -> bytes:
    needed = ('model', 'train_dataloader', 'train_cfg', 'optim_wrapper')
    cfg, _ = load_config(args.config, args.cfg_options, needed)
    check_optimizer(cfg)
    use_cpu_amp(cfg)
    MMLogger.get_current_instance().setLevel('WARNING')  # a line for every parameter
    return draw_schedule(run_schedule(cfg, build_model(cfg)), Path(args.config).stem)
