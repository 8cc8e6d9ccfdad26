"""Data and random numbers that are functions of the seed and of how far a training is.

A training that is resumed then goes on as if it had not ended, in the middle of an epoch too, with
any number of workers. Our own, on MMEngine's loops.
"""

import random
from collections.abc import Iterator, Sequence
from unittest.mock import patch

import numpy as np
import torch
from mmengine.dist import get_rank, get_world_size
from mmengine.hooks import Hook
from mmengine.registry import DATA_SAMPLERS
from mmengine.runner import EpochBasedTrainLoop, IterBasedTrainLoop
from torch.utils.data import BatchSampler, DataLoader, Sampler

from ..errors import UserError


def set_seed(*numbers: int) -> None:
    """Seed Python's, NumPy's and PyTorch's generators of the CPU from non-negative numbers."""
    seed = int(np.random.SeedSequence(numbers).generate_state(1)[0])
    random.seed(seed)
    np.random.seed(seed)
    torch.default_generator.manual_seed(seed)


class SeededItems:
    """What PyTorch calls for the samples of a batch: each is a function of seed, epoch and index.

    Args:
        dataset: A data set of the map style.
        seed (int): Of the training.
    """

    def __init__(self, dataset, seed: int):
        self.dataset, self.seed = dataset, seed

    def __call__(self, draws: Sequence[tuple[int, int]]) -> list:
        items = []
        for epoch, index in draws:
            set_seed(self.seed, epoch, index)
            items.append(self.dataset[index])
        return items


class PlacedBatchSampler(BatchSampler):
    """Batches of another sampler as (epoch, index) pairs, from any place on.

    Args:
        sampler (Sampler): Of the indices.
        batch_size (int): Images of a batch.
        inner (dict, optional): Config of the batch sampler; default: PyTorch's.
        drop_last (bool): Leave out a last batch that is not full; PyTorch's only.
        endless (bool): Begin another epoch after the last batch.
    """

    def __init__(
        self,
        sampler: Sampler,
        batch_size: int,
        inner: dict | None = None,
        drop_last: bool = False,
        endless: bool = False,
    ):
        if inner is None:
            self.inner = BatchSampler(sampler, batch_size, drop_last)
        else:
            options = dict(sampler=sampler, batch_size=batch_size)
            self.inner = DATA_SAMPLERS.build(inner, default_args=options)
        super().__init__(sampler, batch_size, drop_last)
        self.images = getattr(sampler, 'size', 0) or len(sampler) * get_world_size()
        self.endless = endless
        self.epoch = self.passed = 0

    def place(self, epoch: int, passed: int) -> None:
        """Let the next pass be that of an epoch, without its first ``passed`` batches."""
        self.epoch, self.passed = epoch, passed

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        epoch, passed = self.epoch, self.passed
        self.passed = 0
        while True:
            number, drawn = 0, 0  # batches and images, of this process
            for batch in self.inner:
                first = get_rank() + get_world_size() * drawn
                number, drawn = number + 1, drawn + len(batch)
                if number > passed:
                    places = range(first, first + get_world_size() * len(batch), get_world_size())
                    # MMEngine's InfiniteSampler is one pass over all epochs.
                    yield [
                        (epoch + place // self.images, index)
                        for place, index in zip(places, batch, strict=True)
                    ]
            if not number:
                raise self._no_batch()
            if not self.endless:
                return
            passed = max(0, passed - number)
            epoch += 1
            self.sampler.set_epoch(epoch)

    def __len__(self) -> int:
        return len(self.inner)

    def require_batches(self) -> None:
        """Raise UserError where a pass has no batch; one without an end says so when it is made."""
        if not (self.endless or len(self)):
            raise self._no_batch()

    def _no_batch(self) -> UserError:
        return UserError(
            f'no batch to train on: {self.images} images for batches of {self.batch_size}, and '
            'drop_last leaves out one that is not full; make the batches smaller'
        )


class Placed:
    """The batches of a loader whose PlacedBatchSampler has no end, for MMEngine's loop.

    The loop passes over the first ``passed`` by `skip_iter`, or one by one in older versions; the
    sampler has done so already.
    """

    def __init__(self, loader: DataLoader, passed: int):
        loader.batch_sampler.place(0, passed)
        self.loader, self.left, self.iterator = loader, passed, None

    def skip_iter(self, number: int) -> None:
        self.left -= number

    def __next__(self):
        if self.left:
            self.left -= 1
            return None
        self.iterator = self.iterator or iter(self.loader)
        return next(self.iterator)


class PlacedLoop:
    """What our two loops share: a loader that can start anywhere, with samples that are seeded."""

    endless = False

    def __init__(self, runner, dataloader: dict, **options):
        loader = dict(dict(batch_size=1), **dataloader)  # PyTorch's default
        sampler = dict(type=PlacedBatchSampler, endless=self.endless)
        sampler |= dict(inner=loader.get('batch_sampler'), drop_last=loader.pop('drop_last', False))
        super().__init__(runner, dict(loader, batch_sampler=sampler), **options)
        self.dataloader.batch_sampler.require_batches()  # or schedules that count epochs fail
        dataset = self.dataloader.dataset
        dataset.__getitems__ = SeededItems(dataset, runner.seed)


class EpochLoop(PlacedLoop, EpochBasedTrainLoop):
    """MMEngine's loop over epochs; one that was left goes on after its last batch."""

    batches = 0  # that the epoch has had, also in a training before this one

    def run_epoch(self) -> None:
        self.runner.call_hook('before_train_epoch')
        self.runner.model.train()
        self.dataloader.batch_sampler.place(self._epoch, self.batches)
        for number, batch in enumerate(self.dataloader, self.batches):
            self.batches = number + 1
            self.run_iter(number, batch)
        self.batches = 0
        self.runner.call_hook('after_train_epoch')
        self._epoch += 1


class IterLoop(PlacedLoop, IterBasedTrainLoop):
    """MMEngine's loop over iterations; a training that is resumed loads nothing that it had."""

    endless = True
    ahead = 0  # batches that the data is before the iterations, after others of another size

    def __init__(self, runner, dataloader: dict, **options):
        # Older versions would start the processes that load data here, and `run` once more.
        with patch('mmengine.runner.loops._InfiniteDataloaderIterator', lambda loader: None):
            super().__init__(runner, dataloader, **options)

    def run(self):
        self.fast_forward_on_resume = False  # what the sampler does costs nothing
        self.dataloader_iterator = Placed(self.dataloader, self._iter)
        return super().run()


LOOPS = dict(EpochBasedTrainLoop=EpochLoop, IterBasedTrainLoop=IterLoop)


def place(loop: dict) -> dict:
    """The config of a training loop with ours in place of MMEngine's; another one stays."""
    loop = dict(loop)
    default = 'EpochBasedTrainLoop' if loop.pop('by_epoch', True) else 'IterBasedTrainLoop'
    kind = loop.get('type', default)
    return dict(loop, type=LOOPS.get(kind, kind))


class SeedIterations(Hook):
    """Dropout and what else a model draws are functions of seed, iteration and process."""

    priority = 'VERY_HIGH'

    def before_train_iter(self, runner, batch_idx: int, data_batch=None) -> None:
        set_seed(runner.seed, runner.iter, get_rank())
        if torch.cuda.is_available():
            torch.cuda.manual_seed_all(torch.initial_seed())
