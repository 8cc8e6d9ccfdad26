"""Count what a model costs, part by part: ``tools/get_flops.py CONFIG``."""

import torch
from mmengine.registry import MODELS, init_default_scope
from mmengine.structures import BaseDataElement

from ..analysis import complexity
from ..zoo import load_config
from .common import exits, make_parser, read_size


@exits
def main(argv: list[str] | None = None) -> None:
    parser = make_parser(
        'Count parameters, multiply-adds (MACs) and activations of a model on one image, with the '
        'products of attention. A head that looks at proposals counts for as many as random '
        'weights propose.'
    )
    parser.add_argument(
        '--size', nargs='+', type=int, default=[256], help='side of the image, or height and width'
    )
    args = parser.parse_args(argv)
    size = read_size(parser, args.size)
    cfg, _ = load_config(args.config, args.cfg_options, ('model',))
    init_default_scope(cfg.default_scope)
    torch.manual_seed(0)
    model = MODELS.build(cfg.model)
    sample = BaseDataElement(
        metainfo=dict(
            img_shape=size, ori_shape=size, pad_shape=size, batch_input_shape=size, scale_factor=1.0
        )
    )
    channels = cfg.model.get('backbone', {}).get('in_channels', 3)
    costs = complexity(model, torch.randn(1, channels, *size), [sample], mode='tensor')
    print(f'| {size[0]} x {size[1]} | parameters (M) | MACs (G) | activations (M) |')
    print('|---|---|---|---|')
    for name, cost in costs.items():
        print(
            f'| {name} | {cost.parameters / 1e6:.4f} | {cost.macs / 1e9:.4f} '
            f'| {cost.activations / 1e6:.4f} |'
        )
