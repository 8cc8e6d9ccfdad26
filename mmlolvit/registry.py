"""mmlolvit's nodes of MMEngine's registry tree.

Configs name our classes with the scope, ``type='mmlolvit.LOLViT'``; MMEngine then imports this
module by itself, under any library's ``default_scope`` and without ``custom_imports``.
"""

from mmengine.registry import DATA_SAMPLERS as MMENGINE_DATA_SAMPLERS
from mmengine.registry import DATASETS as MMENGINE_DATASETS
from mmengine.registry import MODELS as MMENGINE_MODELS
from mmengine.registry import Registry

MODELS = Registry('model', parent=MMENGINE_MODELS, scope='mmlolvit', locations=['mmlolvit.models'])
DATASETS = Registry(
    'dataset', parent=MMENGINE_DATASETS, scope='mmlolvit', locations=['mmlolvit.datasets']
)
DATA_SAMPLERS = Registry(
    'data sampler', parent=MMENGINE_DATA_SAMPLERS, scope='mmlolvit', locations=['mmlolvit.datasets']
)
