"""Mixed precision without an accelerator."""

from contextlib import contextmanager

import torch
from mmengine.optim import OptimWrapper
from mmengine.runner import autocast


class CpuAmpOptimWrapper(OptimWrapper):
    """bfloat16 autocast on a CPU, where MMEngine's AmpOptimWrapper refuses to run."""

    @contextmanager
    def optim_context(self, model):
        with super().optim_context(model), autocast('cpu', torch.bfloat16):
            yield
