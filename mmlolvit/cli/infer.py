"""Ask a model about images and videos: ``tools/infer.py CONFIG CKPT INPUT...``."""

import argparse
import glob
import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import cv2
from tqdm import tqdm

from ..deploy.onnx import FitSize, OnnxModel
from ..errors import UserError
from ..images import why_unreadable
from ..inference import Predictor, load
from .answers import FORMS, MASKS, PICTURES, Form
from .common import check_writable, exits, make_parser, require_at_least, take_checkpoint
from .outputs import SCORE_THR

IMAGES = ('.bmp', '.gif', '.jpeg', '.jpg', '.png', '.ppm', '.tif', '.tiff', '.webp')
VIDEOS = ('.avi', '.m4v', '.mkv', '.mov', '.mp4', '.webm')
FPS = 240  # at most, of those that are written; MPEG-4 knows no finer steps of time than 1/65535 s
WHOLE = 0.95  # of the frames that a video says to have, which is an estimate in some formats


@exits
def main(argv: list[str] | None = None) -> int:
    args = parse(argv)
    unread, written = [], 0
    found = find_files(args.inputs, args.out, unread)
    files = list({os.path.abspath(file): file for file in found}.values())  # each once
    if not files:
        raise UserError('; '.join(unread))
    predictor = load(args.config, args.checkpoint, args.device, args.cfg_options)
    if isinstance(predictor.model, OnnxModel):
        predictor.transforms.append(FitSize(predictor.model))  # each image is refused by itself
    check_writable(args.out)
    images = read_files(predictor, files, unread)
    with ExitStack() as stack:
        forms = [stack.enter_context(closing(form)) for form in make_forms(predictor, args, files)]
        bar = stack.enter_context(tqdm(unit='image', total=count(files)))
        for image, sample in predictor.predict(images, args.batch_size):
            answer = predictor.answer(sample)
            for form in forms:
                form.write(image, sample, answer)
            written += 1
            bar.update()
        for form in forms:
            form.finish()
    print(f'{written} answers in {args.out}')
    for message in unread:
        print(f'error: {message}', file=sys.stderr)
    return 1 if unread else 0


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = make_parser(
        'Ask a model about images and videos. Exit code 1 where some could not be read: they are '
        'listed at the end, and the rest is done.'
    )
    add = parser.add_argument
    take_checkpoint(parser, 'file or URL; FILE.onnx for an exported model')
    add('inputs', nargs='+', metavar='INPUT', help='image, video, folder of them, or a pattern')
    add('--out', metavar='DIR', default='answers', help='default: answers')
    add(
        '--write',
        nargs='+',
        choices=FORMS,
        default=['pictures', 'jsonl'],
        help='pictures (of a video, a video); predictions.jsonl; results.json for COCO; masks of '
        'class ids, as BDD100K has them; default: pictures jsonl',
    )
    add('--ann-file', help="coco: the file with the ids; default: that of the config's test set")
    add('--score-thr', type=float, default=SCORE_THR, help='of boxes in pictures; default 0.3')
    add('--batch-size', type=int, default=8, help='default 8')
    add('--device', help='cpu or cuda; default: a GPU if there is one')
    args = parser.parse_args(argv)
    if '' in args.inputs:
        parser.error("INPUT expects a file, a folder or a pattern, got ''")
    require_at_least(parser, args, batch_size=1)
    args.out = Path(args.out)
    return args


def find_files(inputs: list[str], out: Path, unread: list[str]) -> Iterator[Path]:
    """The images and videos of what was given, without those that are written in folders of it.

    What is no file gets a line in ``unread``. Raises UserError where nothing else was given, as
    it would be read and written at once.
    """
    written = {Path(os.path.realpath(out / folder)) for folder in (PICTURES, MASKS)}
    for text in inputs:
        if os.path.isdir(text):
            found = search(text, unread)
        elif os.path.lexists(text):
            found = [Path(text)]
        else:
            found = sorted(map(Path, glob.glob(text, recursive=True))) or [Path(text)]
        files = [file for file in found if os.path.isfile(file)]
        lost = sorted({*found} - {*files})
        unread += [f'{file} cannot be read: {why_unreadable(file)}' for file in lost]
        own = {file for file in files if written & {*Path(os.path.realpath(file)).parents}}
        if own and len(own) == len(files):
            raise UserError(f'{text} is where answers are written: name another folder by --out')
        yield from (file for file in files if file not in own)


def search(folder: str, unread: list[str]) -> list[Path]:
    """The images and videos of a folder and of those in it.

    A folder that cannot be read gets a line in ``unread``.
    """
    refused = []
    walk = os.walk(folder, onerror=refused.append)
    paths = [Path(place, name) for place, _, names in walk for name in names]
    found = sorted(path for path in paths if path.suffix.lower() in IMAGES + VIDEOS)
    unread += [f'folder {error.filename} cannot be read: {error.strerror}' for error in refused]
    if not found and not refused:
        unread.append(f'{folder} holds no images')
    return found


def count(files: list[Path]) -> int:
    """How many images the files hold, as videos say it."""
    videos = [file for file in files if file.suffix.lower() in VIDEOS]
    frames = [int(cv2.VideoCapture(str(file)).get(cv2.CAP_PROP_FRAME_COUNT)) for file in videos]
    return len(files) - len(videos) + sum(max(number, 0) for number in frames)


def read_files(predictor: Predictor, files: list[Path], unread: list[str]) -> Iterator[dict]:
    """Images as a `Form` takes them; a file that cannot be read gets a line in ``unread``."""
    names = set()
    for file in files:
        name, number = file.stem, 1
        while name in names:
            number += 1
            name = f'{file.stem}_{number}'
        names.add(name)
        if file.suffix.lower() not in VIDEOS:
            try:
                yield dict(predictor.read(file), file=file, name=name)
            except UserError as error:
                unread.append(str(error))
            continue
        video, frame = cv2.VideoCapture(str(file)), 0
        fps = min(round(video.get(cv2.CAP_PROP_FPS), 2), FPS) or 25
        while (image := video.read()[1]) is not None:
            place = dict(file=file, name=name, frame=frame, fps=fps)
            try:
                yield dict(predictor.read(image), **place)
            except UserError as error:
                unread.append(f'{file}: {error}')
                break
            frame += 1
        expected = video.get(cv2.CAP_PROP_FRAME_COUNT)
        if not frame:
            unread.append(f'{file} cannot be read as a video')
        elif frame < WHOLE * expected:
            unread.append(f'{file} ends after {frame} of {expected:.0f} frames')


def make_forms(predictor: Predictor, args: argparse.Namespace, files: list[Path]) -> Iterator[Form]:
    """What was asked for; raises UserError where it is of another task, or not for these files."""
    options = dict(
        coco=dict(ann_file=args.ann_file, files=files), pictures=dict(score_thr=args.score_thr)
    )
    for name in dict.fromkeys(args.write):
        form = FORMS[name]
        if form.scope not in (None, predictor.task.scope):
            raise UserError(f'--write {name} is for a config of {form.scope}')
        yield form(predictor, args.out, **options.get(name, {}))
