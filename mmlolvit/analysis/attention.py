"""How much the attention matters."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..models.glff import GlobalLocalFusion


@torch.no_grad()
def attention_shares(model: nn.Module, images: Tensor) -> dict[str, float]:
    """Share of each block's fused signal that comes from FWA, 0 to 1.

    In eval mode. The fusion's first convolution sums a part from FWA's channels and one from the
    local channels; the share is FWA's variance over batch and positions over that of both.

    Args:
        model (nn.Module): A LOLViT, or a model around one, before :func:`mmlolvit.deploy.fuse`.
        images (Tensor): Normalised images (B, C, H, W).

    Returns:
        dict[str, float]: Per fusion with attention, by module name.
    """
    shares = {}

    def measure(name: str):
        def hook(primary: nn.Module, inputs: tuple[Tensor]) -> None:
            parts = zip(
                inputs[0].split(splits[name], dim=1),
                primary.conv.weight.split(splits[name], dim=1),
                strict=True,
            )
            glob, local = (
                F.conv2d(x, weight).var(dim=(0, 2, 3)).sum().item() for x, weight in parts
            )
            shares[name] = glob / (glob + local)

        return hook

    fusions = {n: m for n, m in model.named_modules() if isinstance(m, GlobalLocalFusion)}
    splits = {name: fusion.split for name, fusion in fusions.items() if all(fusion.split)}
    handles = [
        fusions[name].expand.primary.register_forward_pre_hook(measure(name)) for name in splits
    ]
    training = model.training
    model.eval()
    try:
        model(images)
    finally:
        model.train(training)
        for handle in handles:
            handle.remove()
    return shares
