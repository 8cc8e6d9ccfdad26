"""What ``tools/test.py`` writes: drawings of the predictions, and JSON."""

import json
from pathlib import Path
from unittest.mock import patch

import mmcv
from mmengine.dist import get_rank, get_world_size
from mmengine.evaluator import BaseMetric
from mmengine.hooks import Hook
from mmengine.model import BaseTTAModel, is_model_wrapper

from ..benchmark.report import write_whole
from ..drawing import in_rgb
from ..tasks import Task, plain

SCORE_THR = 0.3  # of the boxes that are drawn


def as_process_0():
    """A context in which MMEngine's visualizers draw, which they refuse in other processes."""
    return patch('mmengine.dist.utils.is_main_process', lambda: True)


class DrawPredictions(Hook):
    """Draw every tested image as ``<number in the data set>_<name>.png``.

    The libraries' own hooks skip images by an interval and let files of one name overwrite each
    other.
    """

    def __init__(self, task: Task, folder: str):
        self.task = task
        self.folder = Path(folder)
        self.drawn = 0
        self.total = 0
        self.visualizer = None

    def before_test(self, runner) -> None:
        dataset = runner.test_loop.dataloader.dataset
        self.total = len(dataset)
        with as_process_0():
            self.visualizer = self.task.make_visualizer(runner.cfg, dataset.metainfo)

    def after_test_iter(self, runner, batch_idx, data_batch, outputs) -> None:
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        inputs = data_batch['inputs']
        if isinstance(model, BaseTTAModel):
            inputs = inputs[0]  # a batch per augmentation
        for tensor, sample in zip(inputs, outputs, strict=True):
            number = self.drawn * get_world_size() + get_rank()
            self.drawn += 1
            if number >= self.total:  # repeated, so that every process has as many
                return
            if path := sample.get('img_path'):
                image = mmcv.imread(path, channel_order='rgb')
                name = f'{number:06d}_{Path(path).stem}.png'
            else:  # drawn on demand; the libraries load BGR
                image = in_rgb(tensor.permute(1, 2, 0).byte().cpu().numpy())
                name = f'{number:06d}.png'
            with as_process_0():
                picture = self.task.draw(self.visualizer, image, sample, SCORE_THR)
            mmcv.imwrite(picture[..., ::-1], str(self.folder / name))


class CollectPredictions(BaseMetric):
    """Gather what ``--out`` writes of each sample, in the data set's order, in ``predictions``."""

    default_prefix = 'predictions'

    def __init__(self, task: Task):
        super().__init__()
        self.task = task
        self.predictions = []

    def process(self, data_batch, data_samples) -> None:
        for sample in data_samples:
            image = sample.get('img_path', sample.get('sample_idx'))
            self.results.append(plain(dict(image=image, **self.task.serialize(sample))))

    def compute_metrics(self, results: list) -> dict:
        self.predictions = results
        return {}


def write_json(path: str, content: dict) -> None:
    """As `write_whole`, of JSON."""
    write_whole(path, json.dumps(plain(content)) + '\n')
