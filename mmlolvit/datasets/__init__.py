from .cue import CueDataset, EpochSampler, draw_cue
from .digits import build_digits, load_split
from .embedded import ensure_embedded
from .partners import build_partners, draw_partners
from .scenes import build_scenes, draw_scene

__all__ = [
    'CueDataset',
    'EpochSampler',
    'build_digits',
    'build_partners',
    'build_scenes',
    'draw_cue',
    'draw_partners',
    'draw_scene',
    'ensure_embedded',
    'load_split',
]
