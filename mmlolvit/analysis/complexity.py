"""What a model costs: parameters, multiply-adds and activations, part by part."""

from collections import Counter
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry
from torch.utils.module_tracker import ModuleTracker

TOTAL = 'total'


@dataclass
class Cost:
    """Of a model or a part of it.

    Attributes:
        parameters: Their number.
        macs: Multiply-adds of convolutions, linear layers and matrix products, attention's too.
        activations: Numbers that those operations put out.
    """

    parameters: int = 0
    macs: int = 0
    activations: int = 0


@torch.no_grad()
def complexity(model: nn.Module, *args, **kwargs) -> dict[str, Cost]:
    """Count what ``model(*args, **kwargs)`` costs, in eval mode.

    Norms, activation functions, pooling, sums and resizing count for nothing, as is usual.

    Returns:
        dict[str, Cost]: Per part, then 'total'. Parts are the model's children, and in place of
            a backbone or a list of modules the parts of these. One that costs nothing is left out.
    """
    training = model.training
    model.eval()
    try:
        # MATH: a fused kernel would hide the products inside.
        with (
            sdpa_kernel(SDPBackend.MATH),
            ModuleTracker() as tracker,
            _Operations(tracker) as counted,
        ):
            model(*args, **kwargs)
    finally:
        model.train(training)
    costs = {}
    for name, part in _parts(model):
        costs[name] = Cost(sum(p.numel() for p in part.parameters()))
    costs[TOTAL] = Cost(sum(p.numel() for p in model.parameters()))
    for module, macs in counted.macs.items():
        path = module.partition('.')[2] + '.'  # without the name of the model's class
        owners = [costs[name] for name in costs if path.startswith(name + '.')]
        for cost in (*owners, costs[TOTAL]):
            cost.macs += macs
            cost.activations += counted.activations[module]
    return {name: cost for name, cost in costs.items() if cost != Cost() or name == TOTAL}


class _Operations(TorchDispatchMode):
    """Counts what each operation costs for the innermost module that runs it."""

    def __init__(self, tracker: ModuleTracker):
        super().__init__()
        self.tracker = tracker
        self.macs, self.activations = Counter(), Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        count = flop_registry.get(func._overloadpacket)
        if count is not None:
            # The name of the innermost module extends those of the modules around it.
            module = max(self.tracker.parents, key=len)
            self.macs[module] += count(*args, **(kwargs or {}), out_val=out) // 2
            self.activations[module] += out.numel()
        return out


def _parts(model: nn.Module) -> list[tuple[str, nn.Module]]:
    """Children of the model; in place of a backbone or a list of modules, the parts of these."""
    parts = []
    for name, child in model.named_children():
        opened = name == 'backbone' or isinstance(child, nn.ModuleList)
        inside = [(f'{name}.{rest}', part) for rest, part in _parts(child)] if opened else []
        parts += inside or [(name, child)]
    return parts
