"""What ``tools/infer.py`` writes of each answer, one class for each form."""

import json
from collections.abc import Sequence
from pathlib import Path

import cv2
import mmcv
import numpy as np
from mmengine.config import Config

from ..drawing import IGNORED, name_of
from ..errors import UserError
from ..inference import Predictor
from ..tasks import plain
from .common import check_file, check_writable
from .data import find_coco, first_dataset
from .outputs import write_json

PICTURES, MASKS = 'pictures', 'masks'  # folders
RESULTS = 'results.json'


class Form:
    """Writes answers into a folder, each as it comes.

    An image is what `Predictor.read` gives, with its `file`, a `name` that no other file has, and
    in a video its `frame` (from 0) and `fps`.
    """

    scope = None  # of the task library, for a form of one task

    def __init__(self, predictor: Predictor, folder: Path):
        self.predictor, self.folder = predictor, folder

    def write(self, image: dict, sample, answer: dict) -> None:
        raise NotImplementedError

    def close(self) -> None:
        """Close what is open, also after an error."""

    def finish(self) -> None:
        """Write what waits for the last answer."""


class Pictures(Form):
    """`pictures/NAME.png`, with boxes of at least a score; of a video, `pictures/FILE.mp4`."""

    def __init__(self, predictor, folder, score_thr):
        super().__init__(predictor, folder)
        self.score_thr = score_thr
        self.video = None
        check_writable(folder / PICTURES)

    def write(self, image, sample, answer):
        picture = self.predictor.draw(image['img'], sample, self.score_thr)[..., ::-1]
        if 'frame' not in image:
            mmcv.imwrite(picture, str(self.folder / PICTURES / f'{image["name"]}.png'))
            return
        if not image['frame']:
            self.close()
            path = self.folder / PICTURES / f'{image["name"]}.mp4'
            codec = cv2.VideoWriter_fourcc(*'mp4v')
            self.size = picture.shape[1::-1]
            self.video = cv2.VideoWriter(str(path), codec, image['fps'], self.size)
            if not self.video.isOpened():
                width, height = self.size
                raise UserError(
                    f'{path} cannot be written, as a video of {width} x {height} px and '
                    f'{image["fps"]:g} frames a second'
                )
        self.video.write(np.ascontiguousarray(mmcv.imresize(picture, self.size)))

    def close(self):
        if self.video is not None:
            self.video.release()
            self.video = None


class Lines(Form):
    """`predictions.jsonl`, an object a line."""

    def __init__(self, predictor, folder):
        super().__init__(predictor, folder)
        self.file = open(folder / 'predictions.jsonl', 'w')  # noqa: SIM115

    def write(self, image, sample, answer):
        fields = dict(image=str(image['file'])) | {k: image[k] for k in ('frame',) if k in image}
        fields |= self.predictor.task.serialize(sample.to_dict())
        if 'labels' in fields:
            fields['names'] = [name_of(self.predictor.meta['classes'], n) for n in fields['labels']]
        elif 'name' in answer:
            fields['name'] = answer['name']
        print(json.dumps(plain(fields)), file=self.file, flush=True)

    def close(self):
        self.file.close()


class CocoResults(Form):
    """`results.json`, as COCO's server takes it, with the ids of an annotation file."""

    scope = 'mmdet'

    def __init__(self, predictor, folder, ann_file, files):
        super().__init__(predictor, folder)
        images, self.categories = read_ids(predictor.cfg, ann_file)
        self.images = find_ids(files, images)
        if lost := set(predictor.meta['classes']) - set(self.categories):
            raise UserError(f'the annotation file has no categories {", ".join(sorted(lost))}')
        check_file(folder / RESULTS)
        self.results = []

    def write(self, image, sample, answer):
        fields = self.predictor.task.serialize(sample.to_dict())
        masks = fields.get('masks')
        for i, (x1, y1, x2, y2) in enumerate(fields['boxes'].tolist()):
            result = dict(
                image_id=self.images[image['file']],
                category_id=self.categories[self.predictor.meta['classes'][fields['labels'][i]]],
                bbox=[x1, y1, x2 - x1, y2 - y1],
                score=fields['scores'][i].item(),
            )
            self.results.append(result | (dict(segmentation=masks[i]) if masks else {}))

    def finish(self):
        write_json(str(self.folder / RESULTS), self.results)


class Masks(Form):
    """`masks/NAME.png`, one channel with the class of each pixel, as BDD100K has it.

    Of a video, `masks/NAME/000000.png` and so on.
    """

    scope = 'mmseg'

    def __init__(self, predictor, folder):
        super().__init__(predictor, folder)
        if (number := len(predictor.meta['classes'])) > IGNORED:
            raise UserError(f'a mask has at most {IGNORED} classes, the model has {number}')
        check_writable(folder / MASKS)

    def write(self, image, sample, answer):
        name = f'{image["name"]}/{image["frame"]:06d}' if 'frame' in image else image['name']
        path = self.folder / MASKS / f'{name}.png'
        mmcv.imwrite(answer['map'].astype(np.uint8), str(path))


FORMS = dict(pictures=Pictures, jsonl=Lines, coco=CocoResults, masks=Masks)


def read_ids(cfg: Config, ann_file: str | None) -> tuple[dict, dict]:
    """COCO's ids of images, by path, and of categories, by name; raises UserError."""
    path = ann_file or find_coco(cfg, first_dataset(cfg, 'test_dataloader'))
    if not path or not Path(path).is_file():
        raise UserError(
            f'coco results need the ids of images and categories: annotation file {path} does not '
            'exist; name one with --ann-file'
        )
    try:
        content = json.loads(Path(path).read_text())
        images = {Path(image['file_name']): image['id'] for image in content['images']}
        return images, {category['name']: category['id'] for category in content['categories']}
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f'{path} is no COCO file: {type(error).__name__}: {error}') from error


def find_ids(files: Sequence[Path], images: dict[Path, int]) -> dict[Path, int]:
    """COCO's id of each image file, by the end of its path or its name; raises UserError."""
    named, ids = {}, {}
    for path in images:
        named.setdefault(path.name, []).append(path)
    for file in files:
        known, parts = named.get(file.name, []), file.absolute().parts
        ends = [path for path in known if parts[-len(path.parts) :] == path.parts]
        known = [max(ends, key=lambda path: len(path.parts))] if ends else known
        if not known:
            raise UserError(f'{file} is not in the annotation file; name another one by --ann-file')
        if len(known) > 1:
            may = ' or '.join(map(str, known[:5]))
            raise UserError(
                f'{file} may be {may} of the annotation file: give it with the folders that tell'
            )
        ids[file] = images[known[0]]
    return ids
