"""Losses and gradients that are NaN or infinite do not reach the weights, and end training."""

import io
import os
from collections.abc import Callable
from functools import partial

import torch
from mmengine.config import Config
from mmengine.dist import all_reduce, get_rank, is_distributed
from mmengine.hooks import Hook

from ..errors import UserError
from .saving import write_safely

POLICIES = ('stop', 'skip', 'go_back')
LIMIT = 10  # steps that may be left out, or times that a training goes back


class GoBack(Exception):
    """Training is to go on from its last checkpoint, without the step ``number``."""

    def __init__(self, number: int, message: str):
        super().__init__(number, message)
        self.number, self.message = number, message


class BadNumbers(Hook):
    """Looks at each loss, and at the gradients before each step.

    Where one is NaN or infinite the weights and statistics stay as they are, the batch is saved for
    replay and the policy is followed. Of a step that is made of several batches
    (`accumulative_counts`) all are left out. Mixed precision with a loss scale leaves out steps of
    infinite gradients by itself, to find its scale; there the losses alone are looked at.

    Args:
        policy (str): 'stop' ends training with a message, 'skip' leaves the step out, 'go_back'
            goes on from the last checkpoint and leaves the step out when it comes again.
        limit (int): How often at most, until it is 'stop'.

    Raises:
        UserError: For another policy or a limit below 1.
    """

    priority = 'HIGHEST'  # before the loss is counted

    def __init__(self, policy: str = 'stop', limit: int = LIMIT):
        if policy not in POLICIES or not isinstance(limit, int) or limit < 1:
            raise UserError(
                f'bad_numbers: expected policy as one of {", ".join(POLICIES)} and limit as at '
                f'least 1, got policy={policy!r} and limit={limit!r}'
            )
        self.policy, self.limit = policy, limit
        self.left_out = set()  # steps, when they come again
        self.times = 0
        self.wrong = None
        self.spoiled = False  # whether a batch of those that a step is made of was left out
        self.buffers = []

    def before_train(self, runner) -> None:
        wrapper, self.spoiled = runner.optim_wrapper, False
        wrapper.update_params = partial(self._update, runner, wrapper.update_params)
        wrapper.step = partial(self._step, runner, wrapper.step)

    def before_train_iter(self, runner, batch_idx, data_batch=None) -> None:
        self.wrong = None
        if self.policy != 'stop':
            self.buffers = [buffer.clone() for buffer in runner.model.buffers()]

    def _update(self, runner, update: Callable, loss: torch.Tensor, **options) -> None:
        if runner.iter in self.left_out:
            self.wrong = 'it was left out'
        elif not agree(loss.isfinite().all()):
            self.wrong = 'the loss'
        else:
            update(loss, **options)
            return
        # MMEngine counts batches in backward(), where gradients of several are added up.
        wrapper, self.spoiled = runner.optim_wrapper, True
        wrapper._inner_count += 1
        if wrapper.should_update():
            wrapper.zero_grad()
            self.spoiled = False

    def _step(self, runner, step: Callable, **options) -> None:
        if self.spoiled:
            self.spoiled = False
            return
        if getattr(runner.optim_wrapper, 'loss_scaler', None) is None:
            named = [(n, p.grad) for n, p in runner.model.named_parameters() if p.grad is not None]
            norms = torch._foreach_norm([grad for _, grad in named])
            if not agree(torch.stack(norms).isfinite().all()):
                bad = [n for (n, _), norm in zip(named, norms, strict=True) if not norm.isfinite()]
                shown = ', '.join(bad[:3]) + (f' and {len(bad) - 3} more' if len(bad) > 3 else '')
                self.wrong = f'the gradients of {shown}' if shown else 'gradients elsewhere'
                return
        step(**options)

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
        if self.wrong is None:
            return
        for buffer, before in zip(runner.model.buffers(), self.buffers, strict=False):
            buffer.copy_(before)
        if runner.iter in self.left_out:
            outputs.clear()
            runner.logger.warning(f'step {runner.iter + 1} is left out, as training went back')
            return
        message = self._describe(runner, data_batch, outputs)
        self.times += 1
        if self.policy == 'stop' or self.times > self.limit:
            mend = (
                'Training ended with what was saved before. Lower the learning rate, clip gradients'
                ' (optim_wrapper.clip_grad), look at the batch; or go on by '
                "--resume --cfg-options bad_numbers.policy=skip, or 'go_back'"
            )
            raise UserError(f'{message}\n{mend}')
        outputs.clear()  # or the mean of the losses would be none for long
        if self.policy == 'go_back':
            raise GoBack(runner.iter, message)
        runner.logger.warning(f'{message}\nThe step is left out, {self.times} of {self.limit}')

    def _describe(self, runner, data_batch, outputs: dict) -> str:
        losses = [k for k, v in outputs.items() if not torch.as_tensor(v).isfinite().all()]
        samples = [find_name(sample) for sample in data_batch.get('data_samples') or ()]
        path = os.path.join(runner.work_dir, f'bad_batch_iter_{runner.iter + 1}')
        path += f'_process_{get_rank()}.pth' if is_distributed() else '.pth'
        content = dict(iter=runner.iter + 1, losses=outputs, samples=samples, batch=data_batch)
        buffer = io.BytesIO()
        torch.save(content, buffer)
        write_safely(path, buffer.getvalue())
        names = f' ({", ".join(losses)})' if losses else ''
        return (
            f'step {runner.iter + 1}: {self.wrong}{names} turned NaN or infinite. The batch of '
            f'{", ".join(samples[:8]) or "unnamed samples"} is saved in {path}'
        )


def guard_numbers(cfg: Config) -> BadNumbers:
    """The hook that a config asks for by `bad_numbers = dict(policy=..., limit=...)`."""
    options = cfg.get('bad_numbers') or {}
    try:
        return BadNumbers(**options)
    except TypeError as error:
        raise UserError(f'bad_numbers: expected policy and limit, got {options}') from error


def agree(fine: torch.Tensor) -> bool:
    """Whether all is fine in every process."""
    if is_distributed():
        fine = fine.int()
        all_reduce(fine, 'min')
    return bool(fine)


def find_name(sample) -> str:
    """The image file of a sample, or what else it says of itself."""
    return str(sample.get('img_path') or f'sample {sample.get("sample_idx", "?")}')
