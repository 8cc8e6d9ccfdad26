"""What tests/test_distributed.py runs in each of its processes, and in its own to compare with."""

import json
import os
import shutil
import signal
import sys
from pathlib import Path

import torch
from mmengine.dist import get_rank, is_main_process
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from mmengine.registry import HOOKS, MODELS, DefaultScope
from mmengine.structures import InstanceData, PixelData

from mmlolvit.cli import test, train
from mmlolvit.cli.common import load_run, make_run_parser
from mmlolvit.cli.distributed import leave
from mmlolvit.cli.samples import GuardedRunner
from tests.helpers import ActAt, send, spoil


@HOOKS.register_module()
class SaveBuffers(Hook):
    """Save what the first validation normalises with, as buffers_RANK.pth."""

    def before_val_iter(self, runner, batch_idx, data_batch=None) -> None:
        path = Path(f'buffers_{get_rank()}.pth')
        if not path.exists():
            torch.save(dict(getattr(runner.model, 'module', runner.model).named_buffers()), path)


class Knowing(BaseModel):
    """Answers with the truth and mistakes that depend on the image, so that each one counts."""

    def __init__(self, data_preprocessor=None):
        super().__init__(data_preprocessor)
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def forward(self, inputs, data_samples, mode):
        assert mode == 'predict'
        for sample in data_samples:
            self.answer(sample, int(Path(sample.img_path).stem))
        return data_samples


@MODELS.register_module()
class KnowingDetector(Knowing):
    def answer(self, sample, number: int) -> None:
        boxes, labels = sample.gt_instances.bboxes, sample.gt_instances.labels.clone()
        if number % 3 == 0:
            labels[0] = (labels[0] + 1) % 10
        scores = torch.linspace(0.9, 0.5, len(labels)) - number / 100
        kept = slice(number % 2, None)
        sample.pred_instances = InstanceData(
            bboxes=getattr(boxes, 'tensor', boxes)[kept], labels=labels[kept], scores=scores[kept]
        )


@MODELS.register_module()
class KnowingDecoder(Knowing):
    def answer(self, sample, number: int) -> None:
        truth = sample.gt_sem_seg.data
        sample.pred_sem_seg = PixelData(data=truth.roll(2 * number, dims=-1))


def gradients(batch_size: int, launcher: str = 'none') -> dict[str, torch.Tensor]:
    """Gradients of the first batch of gradients.py in float64."""
    args = ['gradients.py', '--launcher', launcher, '--work-dir', 'gradients']
    cfg, _ = load_run(make_run_parser('').parse_args(args), ())
    cfg.train_dataloader.batch_size = batch_size
    torch.set_default_dtype(torch.float64)
    try:
        runner = GuardedRunner.from_cfg(cfg)
        runner.load_checkpoint('cls/epoch_1.pth')
        model = runner.model.train()
        bare = getattr(model, 'module', model)
        batch = next(iter(runner.build_dataloader(cfg.train_dataloader)))
        batch = bare.data_preprocessor(batch, training=True)
        batch['inputs'] = batch['inputs'].double()
        loss, _ = bare.parse_losses(model(**batch, mode='loss'))
        loss.backward()
    finally:
        torch.set_default_dtype(torch.float32)
    return {name: p.grad for name, p in bare.named_parameters()}


def run(main, *argv: str, code: int = 0) -> None:
    DefaultScope._instance_dict.clear()  # as in conftest.py
    if (found := main([*argv, '--launcher', 'pytorch'])) != code:
        sys.exit(f'expected exit code {code}, got {found}')


def run_faulty(work_dir: str, action, *options: str, code: int = 0) -> None:
    """Train with something that happens in process 1 alone, before its 9th step."""
    ActAt.actions = {8: action} if get_rank() == 1 else {}
    options = ('--cfg-options', *options) if options else ()
    run(train.main, 'faulty.py', '--work-dir', work_dir, '--resume', *options, code=code)


def work() -> None:
    train.leave = test.leave = bool  # torchrun's processes cannot meet twice
    run(train.main, 'cls.py', '--work-dir', 'cls', '--auto-scale-lr')
    if is_main_process():
        Path('first.json').write_text(json.dumps(sorted(os.listdir('cls'))))
    longer = ('--cfg-options', 'train_cfg.max_epochs=2')
    run(train.main, 'cls.py', '--work-dir', 'cls', '--resume', *longer)
    for name, checkpoint in dict(cls='cls/epoch_1.pth', det='any.pth', seg='any.pth').items():
        out = ('--out', f'two/{name}.json', '--show-dir', f'two/{name}')
        run(test.main, f'{name}.py', checkpoint, '--work-dir', f'two/work_{name}', *out)
    for name in ('det', 'seg'):
        run(train.main, f'{name}_train.py', '--work-dir', f'{name}_trained')
    run(train.main, 'cls.py', '--work-dir', 'dry', '--dry-run')
    run_faulty('whole', bool)
    run_faulty('cut', send(signal.SIGTERM), code=128 + signal.SIGTERM)
    if is_main_process():
        shutil.copytree('cut', 'kept')
    run_faulty('cut', bool)
    run_faulty('skipped', spoil('loss'), 'bad_numbers.policy=skip')
    run_faulty('back', spoil('loss'), 'bad_numbers.policy=go_back')
    found = gradients(4, 'pytorch')
    if is_main_process():
        torch.save(found, 'gradients.pth')
    leave()


if __name__ == '__main__':
    work()
