"""A trained model of any task as a function of images.

    model = mmlolvit.load('lolvit_x_digits', 'epoch_15.pth')
    model('seven.png')['name']

Ours: the libraries' inferencers agree on neither arguments nor answers, end at the first file that
they cannot read, and take no exported model.
"""

import os
from collections.abc import Iterator, Sequence
from itertools import groupby, islice
from pathlib import Path

import cv2
import numpy as np
import torch
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.registry import MODELS, TRANSFORMS, init_default_scope
from torch import nn

from .checkpoints import data_meta, read_checkpoint, require_equal
from .cli.data import find_type, first_dataset
from .deploy.onnx import use_exported
from .errors import UserError
from .images import max_pixels, require_file, why_unreadable
from .tasks import Task
from .zoo import load_config

Image = str | os.PathLike | np.ndarray


def load(
    config: str | os.PathLike,
    checkpoint: str | os.PathLike,
    device: str | None = None,
    cfg_options: dict | None = None,
) -> 'Predictor':
    """A model that is ready to answer.

    Args:
        config (str): File, or name of a config of the package (`mmlolvit.list_models`).
        checkpoint (str): File or URL of weights, or an ``.onnx`` file of the config's task.
        device (str, optional): 'cpu' or 'cuda'; default: a GPU if there is one. An exported model
            runs on the CPU.
        cfg_options (dict, optional): Settings of the config to change, by dotted keys.

    Raises:
        UserError: What does not exist, cannot be read or does not fit together.
    """
    checkpoint = str(checkpoint)
    cfg, task = load_config(str(config), cfg_options or {}, ('model', 'test_dataloader'))
    exported = Path(checkpoint).suffix == '.onnx'
    device = device or ('cuda' if torch.cuda.is_available() and not exported else 'cpu')
    kind, _, number = device.partition(':')
    if kind not in ('cpu', 'cuda') or not (number or '0').isdecimal():
        raise UserError(f'device must be cpu or cuda, with a number as in cuda:1, got {device!r}')
    if kind == 'cuda' and int(number or 0) >= torch.cuda.device_count():
        raise UserError(f'device {device!r}: no such GPU that PyTorch {torch.__version__} can use')
    if exported:
        use_exported(cfg, checkpoint)
        model = build_model(cfg)
        meta = dict(dataset_meta=dict(classes=model.metadata['classes']))
    else:
        model, meta = load_model(cfg, checkpoint)
    return Predictor(cfg, task, model.to(device), find_meta(cfg, meta))


def build_model(cfg: Config) -> nn.Module:
    """The config's model, with its data preprocessor, in eval mode."""
    init_default_scope(cfg.default_scope)
    settings = dict(cfg.model)
    if cfg.get('data_preprocessor'):
        settings.setdefault('data_preprocessor', cfg.data_preprocessor)
    return MODELS.build(settings).eval()


def load_model(cfg: Config, checkpoint: str) -> tuple[nn.Module, dict]:
    """The config's model with the weights of a checkpoint, and the checkpoint's `meta`."""
    content = read_checkpoint(checkpoint)
    model = build_model(cfg)
    require_equal(model, content['state_dict'], checkpoint)
    model.load_state_dict(content['state_dict'])
    return model, content.get('meta', {})


def find_meta(cfg: Config, meta: dict) -> dict:
    """What is known of the data set, `classes` and perhaps `palette`.

    From the checkpoint's `meta`, or else the config, or else the data set's class.
    """
    dataset = first_dataset(cfg, 'test_dataloader')
    sources = (
        data_meta(meta),
        dataset.get('metainfo'),
        getattr(find_type(cfg, dataset), 'METAINFO', None),
    )
    known = next((source for source in sources if source and source.get('classes')), {})
    return dict(known, classes=tuple(known.get('classes', ())))


class Predictor:
    """A model, and the test pipeline of its config, as a function from images to plain answers.

    Attributes:
        cfg (Config): The config.
        task (Task): What is known of its library.
        model (nn.Module): In eval mode, on its device.
        meta (dict): Of the data: `classes`, tuple of str, and perhaps `palette`, RGB of each.
    """

    def __init__(self, cfg: Config, task: Task, model: nn.Module, meta: dict):
        self.cfg, self.task, self.model, self.meta = cfg, task, model, meta
        init_default_scope(cfg.default_scope)
        pipeline = [TRANSFORMS.build(step) for step in _test_pipeline(cfg)]
        self.loads, *self.transforms = pipeline
        self._visualizer = None

    def __call__(self, images: Image | Sequence[Image], batch_size: int = 8) -> dict | list[dict]:
        """The answer to an image, or those to a sequence of them.

        Args:
            images: A file, or an array (H, W, 3), uint8, BGR as OpenCV reads it.
            batch_size (int): How many images run at once, those of one size next to each other.

        Returns:
            dict: Classification: `label`, `name`, `score` and `scores` (classes,). Detection:
            `boxes` (K, 4), x1, y1, x2, y2 in px of the image, `scores` (K,), the best first,
            `labels` (K,), `names`, and `masks` (K, H, W) where the model has them. Segmentation:
            `map` (H, W), the class of each pixel.

        Raises:
            UserError: On a file that is no image, on arrays of another form, and on a batch size
                of less than 1.
        """
        if batch_size < 1:
            raise UserError(f'batch_size must be at least 1, got {batch_size}')
        if isinstance(images, Image):
            return self([images], batch_size)[0]
        read = map(self.read, images)
        return [self.answer(sample) for _, sample in self.predict(read, batch_size)]

    def read(self, image: Image) -> dict:
        """An image, its pixels (H, W, 3) under `img`, and `prepared`, as the model takes it.

        Raises UserError for what is no image, and for a long, thin one whose side would shrink to
        nothing, or grow beyond the pixels that an image may have.
        """
        if isinstance(image, np.ndarray):
            if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or not image.size:
                raise UserError(
                    'an image is an array (H, W, 3) of uint8, BGR, '
                    f'got {image.shape} of {image.dtype}'
                )
            shape = image.shape[:2]
            found = dict(img=image, img_shape=shape, ori_shape=shape, img_path=None, img_id=0)
            return dict(found, prepared=self._prepare(found))
        path = str(image)
        try:
            require_file(path)
            found = self.loads(dict(img_path=path, img_id=0))
        except Exception:  # what is no image can fail in any way
            found = None
        if found is None:
            raise UserError(f'{path} cannot be read as an image: {why_unreadable(path)}')
        return dict(found, prepared=self._prepare(found))

    def _prepare(self, image: dict) -> dict:
        data = dict(image)
        for transform in self.transforms:
            try:
                if find_pixels(transform, image['img']) > max_pixels():
                    raise UserError(f'it would have more than {max_pixels()} pixels')
                data = transform(data)
            except (cv2.error, UserError) as error:
                height, width = image['img'].shape[:2]
                where = image.get('img_path') or 'an image'
                raise UserError(
                    f'{where} of {width} x {height} px cannot be prepared for the model by '
                    f'{type(transform).__name__}: {getattr(error, "err", error)}'
                ) from error
        return data

    @torch.inference_mode()
    def predict(self, images: Iterator[dict], batch_size: int = 8) -> Iterator[tuple[dict, object]]:
        """What `read` gave, each with the sample of the task's library that was predicted on it.

        Lazy. Images of unlike sizes are never padded to one, so that no answer hangs on the others.
        """

        def prepared() -> Iterator[tuple[dict, dict]]:
            for image in images:
                yield image, image['prepared']

        for _, same in groupby(prepared(), key=lambda pair: pair[1]['inputs'].shape):
            while batch := list(islice(same, batch_size)):
                samples = self.model.test_step(pseudo_collate([data for _, data in batch]))
                yield from zip((image for image, _ in batch), samples, strict=True)

    def answer(self, sample) -> dict:
        """What `__call__` returns of a predicted sample."""
        return self.task.answer(sample.to_dict(), self.meta['classes'])

    def draw(self, image: np.ndarray, sample, score_thr: float = 0.3) -> np.ndarray:
        """A picture (H, W, 3), uint8, RGB, of a predicted sample on its image, BGR.

        Boxes have at least a score of ``score_thr``.
        """
        if self._visualizer is None:
            self._visualizer = self.task.make_visualizer(self.cfg, self.meta)
        return self.task.draw(self._visualizer, image[..., ::-1], sample, score_thr)


def find_pixels(transform, image: np.ndarray) -> int:
    """Of an image (H, W, 3) after a transform that sets its shorter side; 0 of other transforms."""
    if getattr(transform, 'edge', None) != 'short':
        return 0
    short, long = sorted(image.shape[:2])
    return transform.scale**2 * long // short


def _test_pipeline(cfg: Config) -> list[dict]:
    """The transforms from a file to what a model takes, without those that read annotations."""
    steps = [
        step
        for step in first_dataset(cfg, 'test_dataloader').pipeline
        if not step['type'].split('.')[-1].startswith('Load')
        or step['type'].split('.')[-1] == 'LoadImageFromFile'
    ]
    if not steps or steps[0]['type'].split('.')[-1] != 'LoadImageFromFile':
        steps.insert(0, dict(type='LoadImageFromFile'))  # of images that are drawn on demand
    return steps
