from .cue import CueDataset, EpochSampler, draw_cue
from .digits import build_digits, load_split
from .embedded import ensure_embedded

__all__ = [
    'CueDataset',
    'EpochSampler',
    'build_digits',
    'draw_cue',
    'ensure_embedded',
    'load_split',
]
