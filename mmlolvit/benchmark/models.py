"""Models to measure, by name: whole, from the image to their answer, with random weights.

Classifiers have their head of 1000 classes, as they are published: some keep a convolution of the
head for after the pooling, and without the pooling it would cost them 64 times as much.
"""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from mmcv.cnn.utils.fuse_conv_bn import _fuse_conv_bn
from mmengine.config import Config, DictAction
from mmengine.registry import MODELS, init_default_scope
from torch import Tensor, nn

from ..deploy import fuse
from ..deploy.graphs import GRAPHS
from ..errors import UserError
from ..models import LOLViT
from ..models.lolvit import ARCHS
from ..tasks import TASKS

CLASSES = 1000
OURS = 'lolvit_'
MMPRETRAIN = 'mmpretrain:'


@dataclass
class Subject:
    """A model to measure.

    Attributes:
        net: In deploy form and eval mode, or as it is trained, in training mode.
        counted: What `mmlolvit.analysis.complexity` counts, called with images alone.
        loss: Loss of images (B, 3, H, W) with random targets, of the training form.
    """

    net: nn.Module
    counted: nn.Module
    loss: Callable[[Tensor], Tensor]


def build(name: str, training: bool = False) -> Subject:
    """A model in its deploy form, or as it is trained.

    Args:
        name (str): Ours, 'lolvit_x' or with options of FWA 'lolvit_x:score=softmax,window=7'; the
            path of a config; 'mmpretrain:' and a name of mmpretrain's; or a name of timm's.
        training (bool): As it is trained, nothing folded.

    Raises:
        UserError: On a name that the library does not know, or options that FWA does not have.
        ImportError: If that library is not installed.
    """
    check_name(name)
    torch.manual_seed(0)
    if name.endswith('.py'):
        return _from_config(name, training)
    if name.startswith(OURS):
        arch, _, options = name.removeprefix(OURS).partition(':')
        net = _Classifier(LOLViT(arch, fwa_cfg=_parse(options)))
    elif name.startswith(MMPRETRAIN):
        from mmpretrain import get_model

        net = get_model(name.removeprefix(MMPRETRAIN))
    else:
        import timm

        net = timm.create_model(name, num_classes=CLASSES)
    if not training:
        net = fuse_checked(_reparameterize(net.eval()))
    net.train(training)
    return Subject(net, net, lambda x: _cross_entropy(net(x)))


def check_name(name: str) -> None:
    """Raise UserError on a name that the installed libraries do not know."""
    if name.endswith('.py'):
        if not Path(name).is_file():
            raise UserError(f'config {name} does not exist')
    elif name.startswith(OURS):
        arch, _, options = name.removeprefix(OURS).partition(':')
        if arch not in ARCHS:
            raise UserError(f'unknown arch of LOLViT {arch!r}, expected one of {", ".join(ARCHS)}')
        try:
            LOLViT(arch, fwa_cfg=_parse(options))
        except (TypeError, ValueError) as error:
            raise UserError(f'{name}: {error}') from error
    elif name.startswith(MMPRETRAIN):
        from mmpretrain import list_models

        if name.removeprefix(MMPRETRAIN) not in list_models():
            raise UserError(f'mmpretrain has no model {name.removeprefix(MMPRETRAIN)!r}')
    else:
        import timm

        if not timm.is_model(name):
            raise UserError(f'timm {timm.__version__} has no model {name!r}')


class _Classifier(nn.Module):
    """The heads of configs/cls/lolvit_*_in1k.py: the mean of the last map, and a linear layer."""

    def __init__(self, backbone: LOLViT):
        super().__init__()
        self.backbone = backbone
        self.head = nn.Linear(backbone.out_channels[-1], CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.backbone(x)[-1].mean(dim=(2, 3)))


def _parse(options: str) -> dict:
    """``score=softmax,window=(grid,7)`` as arguments."""
    args, depth, parts = {}, 0, ['']
    for letter in options:
        depth += (letter in '([') - (letter in ')]')
        if letter == ',' and not depth:
            parts.append('')
        else:
            parts[-1] += letter
    for part in filter(None, parts):
        key, _, value = part.partition('=')
        args[key] = DictAction._parse_iterable(value)
    return args


def _cross_entropy(scores: Tensor) -> Tensor:
    labels = torch.arange(len(scores), device=scores.device) % scores.shape[1]
    return F.cross_entropy(scores.float(), labels)


def _reparameterize(net: nn.Module) -> nn.Module:
    try:
        from timm.utils.model import reparameterize_model
    except ImportError:  # then no model of timm's is here
        return net
    return reparameterize_model(net)


def fuse_checked(model: nn.Module) -> nn.Module:
    """Fold a model's norms, and make sure that its output stayed what it was."""
    x = torch.randn(2, 3, 256, 256)
    with torch.inference_mode():
        want = model(x)
    model = fuse(_fold_norm_act(copy.deepcopy(model)))
    with torch.inference_mode():
        got = model(x)
    error = ((got - want).abs().max() / want.abs().max()).item()
    if not error < 1e-3:
        raise RuntimeError(f'folding changed the output by {error:.1e} of its maximum')
    return model


def _fold_norm_act(module: nn.Module) -> nn.Module:
    """Fold timm's norms that carry their own activation, which mmcv's folding would drop."""
    last = None
    for name, child in module.named_children():
        if isinstance(child, nn.BatchNorm2d) and hasattr(child, 'act') and last is not None:
            _fuse_conv_bn(last, child)
            setattr(module, name, child.act)
        else:
            _fold_norm_act(child)
        last = child if isinstance(child, nn.Conv2d) else None
    return module


def _from_config(path: str, training: bool) -> Subject:
    """A whole model of a task library, to the final answer as it is exported."""
    cfg = Config.fromfile(path)
    scope = cfg.get('default_scope')
    if scope not in TASKS or 'model' not in cfg:
        raise UserError(f'config {path} has no model of {", ".join(TASKS)}')
    init_default_scope(scope)
    model = MODELS.build(dict(cfg.model, data_preprocessor=cfg.get('data_preprocessor')))
    graph = GRAPHS[scope](model if training else fuse(model))  # refuses what it cannot measure

    def loss(x: Tensor) -> Tensor:
        return model.parse_losses(model.loss(x, SAMPLES[scope](model, x)))[0]

    return Subject(graph.train(training), model, loss)


def _labels(model: nn.Module, x: Tensor) -> list:
    from mmpretrain.structures import DataSample

    classes = model.head.num_classes
    return [DataSample().set_gt_label(i % classes).to(x.device) for i in range(len(x))]


def _boxes(model: nn.Module, x: Tensor) -> list:
    from mmdet.testing import demo_mm_inputs

    shapes = [tuple(x.shape[1:])] * len(x)
    inputs = demo_mm_inputs(len(x), shapes, [4] * len(x), model.bbox_head.num_classes)
    size = tuple(x.shape[2:])
    for sample in inputs['data_samples']:
        sample.set_metainfo(dict(pad_shape=size, batch_input_shape=size))
    return [sample.to(x.device) for sample in inputs['data_samples']]


def _maps(model: nn.Module, x: Tensor) -> list:
    from mmengine.structures import PixelData
    from mmseg.structures import SegDataSample

    generator = torch.Generator().manual_seed(0)
    shape, classes = (1, *x.shape[2:]), model.num_classes
    samples = []
    for _ in range(len(x)):
        data = torch.randint(0, classes, shape, generator=generator)
        samples.append(SegDataSample(gt_sem_seg=PixelData(data=data)).to(x.device))
    return samples


SAMPLES = dict(mmpretrain=_labels, mmdet=_boxes, mmseg=_maps)
