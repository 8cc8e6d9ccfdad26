"""The weights that a backbone starts from."""

from inspect import signature

from mmengine.config import Config
from mmengine.registry import MODELS
from torch.nn import Module

from ..checkpoints import read_checkpoint, require_equal
from ..errors import UserError
from ..models import LOLViT

SMALL_BATCH = 4  # images on a device; below it BatchNorm keeps pretrained statistics (our choice)
ANOTHER_BACKBONE = (
    "Name a checkpoint whose backbone has this config's arch; in init_cfg, with the prefix that "
    "its tensors have, as in prefix='backbone.'."
)


def start_backbone(cfg: Config, path: str) -> None:
    """Let the backbone start from the `backbone.*` tensors of a checkpoint.

    Raises UserError where the model has no backbone.
    """
    if 'backbone' not in cfg.model:
        raise UserError("--backbone-checkpoint: the config's model has no backbone")
    cfg.model.backbone.init_cfg = dict(type='Pretrained', checkpoint=path, prefix='backbone.')
    cfg.load_from = None


def find_pretrained(cfg: Config) -> dict | None:
    """The checkpoint and the prefix in it that the config's backbone starts from, or None.

    Such a backbone keeps its BatchNorm statistics (norm_eval) where the batches are small, unless
    the config says otherwise. The backbones of other libraries, which load in ways of their own,
    count only if their `init_cfg` has a prefix.
    """
    backbone, init = cfg.model.get('backbone', {}), find_init(cfg)
    if init is None:
        return None
    with MODELS.switch_scope_and_registry(cfg.default_scope) as registry:
        kind = registry.get(backbone.type)
    prefix = init.get('prefix')
    if not prefix and kind is not LOLViT:
        return None
    batch_size = cfg.train_dataloader.get('batch_size', SMALL_BATCH)
    if batch_size < SMALL_BATCH and kind and 'norm_eval' in signature(kind).parameters:
        backbone.setdefault('norm_eval', True)
    return dict(checkpoint=init.checkpoint, prefix=prefix and prefix.rstrip('.') + '.')


def find_init(cfg: Config) -> dict | None:
    """The part of the backbone's `init_cfg` that is of type Pretrained, or None."""
    inits = cfg.model.get('backbone', {}).get('init_cfg') or []
    inits = [inits] if isinstance(inits, dict) else inits
    return next((init for init in inits if init.get('type') == 'Pretrained'), None)


def keep_norm_eval(cfg: Config, checkpoint: dict) -> None:
    """Let a resumed backbone keep its BatchNorm statistics if it did when it was saved.

    By then the config may not name the weights that it started from.
    """
    if checkpoint['meta'].get('norm_eval'):
        cfg.model.backbone.setdefault('norm_eval', True)


def check_pretrained(model: Module, checkpoint: str, prefix: str | None) -> str:
    """A line for the log on the tensors that the model's backbone starts from.

    Raises UserError unless they cover the whole backbone; what the checkpoint holds beyond it is
    left out, such as stages that the config does not build.
    """
    backbone = getattr(model, 'module', model).backbone
    expected = backbone.state_dict()
    weights = read_checkpoint(checkpoint)['state_dict']
    used = {name: weights[key] for name in expected if (key := (prefix or '') + name) in weights}
    require_equal(expected, used, checkpoint, shown=None, mend=ANOTHER_BACKBONE)
    kept = ', BatchNorm statistics kept (norm_eval)' if getattr(backbone, 'norm_eval', 0) else ''
    return f'Loaded {len(used)} of {len(expected)} backbone tensors from {checkpoint}{kept}.'


def require_backbone(model: Module, path: str) -> None:
    """Raise UserError unless a checkpoint has the model's backbone; heads may differ."""
    weights = read_checkpoint(path)['state_dict']
    model = getattr(model, 'module', model)
    expected = {k: v for k, v in model.state_dict().items() if k.startswith('backbone.')}
    used = {k: weights[k] for k in expected if k in weights}
    require_equal(expected, used, path, shown=None, mend=ANOTHER_BACKBONE)
