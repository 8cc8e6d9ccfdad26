"""Top-1 accuracy on ImageNet-1K as the papers of the rivals print it, in percent.

Of the recipe without distillation where there are both, at the paper's image size. Ours has none
until it is trained.
"""

from typing import NamedTuple


class Published(NamedTuple):
    """A figure of a paper's: percent, side of its images in pixels, and where it stands."""

    top1: float
    size: int
    source: str


MOBILEVIT = 'Mehta and Rastegari, arXiv 2110.02178'
MOBILEVIT_V2 = 'Mehta and Rastegari, arXiv 2206.02680'
MOBILENET_V3 = 'Howard et al., arXiv 1905.02244'
EFFICIENTVIT = 'Liu et al., arXiv 2305.07027'

PUBLISHED = {
    'mobilevit_xxs': Published(69.0, 256, MOBILEVIT),
    'mobilevit_xs': Published(74.8, 256, MOBILEVIT),
    'mobilevit_s': Published(78.4, 256, MOBILEVIT),
    'mobilevitv2_050': Published(70.2, 256, MOBILEVIT_V2),
    'mobilevitv2_075': Published(75.6, 256, MOBILEVIT_V2),
    'mobilevitv2_100': Published(78.1, 256, MOBILEVIT_V2),
    'ghostnet_100': Published(73.9, 224, 'Han et al., arXiv 1911.11907'),
    'ghostnetv2_100': Published(75.3, 224, 'Tang et al., arXiv 2211.12905'),
    'mobilenetv3_large_100': Published(75.2, 224, MOBILENET_V3),
    'mobilenetv3_small_100': Published(67.4, 224, MOBILENET_V3),
    'mobilenetv4_conv_small': Published(73.8, 224, 'Qin et al., arXiv 2404.10518'),
    'efficientvit_m1': Published(68.4, 224, EFFICIENTVIT),
    'efficientvit_m2': Published(70.8, 224, EFFICIENTVIT),
    'shvit_s1': Published(72.8, 224, 'Yun and Ro, arXiv 2401.16456'),
    'edgenext_x_small': Published(75.0, 256, 'Maaz et al., arXiv 2206.10589'),
    'starnet_s1': Published(73.5, 224, 'Ma et al., arXiv 2403.19967'),
    'repvit_m0_9': Published(78.7, 224, 'Wang et al., arXiv 2307.09283 (distilled, 300 epochs)'),
    'fastvit_t8': Published(76.2, 256, 'Vasu et al., arXiv 2303.14189, its repository'),
}
