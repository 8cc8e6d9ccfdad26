"""Models to measure, by name, with random weights: backbones, and whole models from configs.

A backbone goes from the image to its last map. What a classifier has after it is left out: some
have a convolution for after the pooling, which on the map would cost them 64 times as much.
"""

import copy
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from mmcv.cnn.utils.fuse_conv_bn import _fuse_conv_bn
from mmengine.config import DictAction
from mmengine.registry import MODELS, init_default_scope
from torch import Tensor, nn

from ..deploy import fuse
from ..deploy.graphs import GRAPHS
from ..errors import UserError
from ..models import LOLViT
from ..models.lolvit import ARCHS
from ..tasks import TASKS
from ..zoo import find_config, list_models, read_config

OURS = 'lolvit_'
MMPRETRAIN = 'mmpretrain:'
HEADS = ('classifier', 'conv_head', 'head', 'head_dist', 'norm_head')  # of timm's models


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
            path of a config or the name of one of the package; 'mmpretrain:' and a name of
            mmpretrain's; or a name of timm's.
        training (bool): As it is trained, nothing folded.

    Raises:
        UserError: On a name that the library does not know, or options that FWA does not have.
        ImportError: If that library is not installed.
    """
    check_name(name)
    torch.manual_seed(0)
    if is_config(name):
        return _from_config(name, training)
    if name.startswith(OURS):
        arch, _, options = name.removeprefix(OURS).partition(':')
        net = Last(LOLViT(arch, fwa_cfg=_parse(options)))
    elif name.startswith(MMPRETRAIN):
        from mmpretrain import get_model

        net = Last(get_model(name.removeprefix(MMPRETRAIN), head=None, neck=None).backbone)
    else:
        net = _timm(name)
    if not training:
        net = fuse_checked(net.eval())
    net.train(training)
    return Subject(net, net, lambda x: _cross_entropy(net(x)))


def is_config(name: str) -> bool:
    """Whether a name is that of a config: a file's, or of one of the package."""
    return name.endswith('.py') or name in list_models()


def check_name(name: str) -> None:
    """Raise UserError on a name that the installed libraries do not know."""
    if is_config(name):
        find_config(name)
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


class Last(nn.Module):
    """The last map of a backbone that may return several."""

    def __init__(self, backbone: nn.Module):
        super().__init__()
        self.backbone = backbone

    def forward(self, x: Tensor) -> Tensor:
        x = self.backbone(x)
        return x[-1] if isinstance(x, tuple | list) else x


class Features(nn.Module):
    """A classifier of timm's up to its last map."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        return self.model.forward_features(x)


def _timm(name: str) -> Features:
    import timm

    model = timm.create_model(name)
    for head in HEADS:
        if hasattr(model, head):
            setattr(model, head, nn.Identity())
    return Features(model)


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


def _cross_entropy(features: Tensor) -> Tensor:
    scores = features.float().mean(dim=(2, 3))
    return F.cross_entropy(scores, torch.arange(len(scores), device=scores.device))


def fuse_checked(model: nn.Module) -> nn.Module:
    """Fold a model's norms and branches, and make sure that its output stayed what it was."""
    x = torch.randn(2, 3, 256, 256)
    with torch.inference_mode():
        want = model(x)
    model = copy.deepcopy(model)
    if isinstance(model, Features):
        from timm.utils.model import reparameterize_model

        model = reparameterize_model(model)
    model = fuse(_fold_norm_act(model))
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
    cfg = read_config(path)
    scope = cfg.get('default_scope')
    if scope not in TASKS or 'model' not in cfg:
        raise UserError(f'config {path} has no model of {", ".join(TASKS)}')
    init_default_scope(scope)
    model = MODELS.build(dict(cfg.model, data_preprocessor=cfg.get('data_preprocessor')))
    if not training:
        model = fuse(_fold_norm_act(model.eval()))
    graph = GRAPHS[scope](model)  # refuses what it cannot measure

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
