"""A page on which models answer about images that are dropped there: ``tools/demo.py``."""

import argparse
import os
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from html import escape
from importlib.util import find_spec
from pathlib import Path

import cv2
import numpy as np
import torch

from ..analysis.attention import image_attention
from ..analysis.pictures import draw_attention
from ..doctor import TASKS
from ..drawing import enlarge, name_of
from ..errors import UserError
from ..inference import Predictor, load
from ..tasks import plain
from ..zoo import list_models, load_config
from .common import Parser, exits, explain, take_checkpoint
from .infer import IMAGES
from .outputs import SCORE_THR

WORK_DIRS = Path('work_dirs')
RUNS = 5  # whose median is the latency
BUTTONS = ['download', 'fullscreen']  # of pictures
KEPT = 4  # models in memory
LISTED = 5  # classes
NARROW = 320  # px, below which what is side by side goes one below the other
LARGEST = 1280  # px of a longer side of an image to click on
CSS = """
.gradio-container {width: 100% !important; max-width: 1200px !important; margin: 0 auto !important}
#text:not(:has(p)), #note:not(:has(p)), #note:has(p) ~ #attention {display: none}
#image img {cursor: crosshair; image-rendering: pixelated}
#image img, #picture img {
    width: 100% !important; height: 100% !important; object-fit: contain !important;
}
.answer {font-size: 1.5em; margin: 0}
.note {opacity: 0.7; margin: 0}
.error {color: var(--error-icon-color); margin: 0}
"""


MAX_UPLOAD = '32mb'  # of a file


@dataclass(frozen=True)
class Choice:
    """A model of the page: `config`, a file or a name, its `task` in a word, `checkpoint`."""

    config: str
    task: str
    checkpoint: str


@exits
def main(argv: list[str] | None = None) -> None:
    args = parse(argv)
    if not find_spec('gradio'):
        raise UserError('gradio is not installed: pip install --no-deps -r requirements/demo.txt')
    choices = find_choices(args.models)
    os.environ['GRADIO_ANALYTICS_ENABLED'] = 'False'  # read when gradio is imported
    page, looks = build_page(choices)
    try:
        page.launch(
            server_name=args.host, server_port=args.port, share=False, ssr_mode=False, quiet=True,
            prevent_thread_lock=True, footer_links=[], max_file_size=MAX_UPLOAD, **looks,
        )  # fmt: skip
    except OSError as error:
        raise UserError(
            f'cannot listen on port {args.port} of {args.host}; name others by --port and --host'
        ) from error
    print(f'models: {len(choices)}, on {page.local_url}; Ctrl+C ends it', flush=True)
    page.block_thread()


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = Parser(
        description='A page on which models answer about images that are dropped there.'
    )
    parser.add_argument(
        '--models', nargs='+', default=[], metavar='NAME CKPT',
        help='configs, by file or name, each with a checkpoint or an exported FILE.onnx; those '
        'under work_dirs are offered too',
    )  # fmt: skip
    parser.add_argument('--host', default='127.0.0.1', help='default 127.0.0.1: this machine only')
    parser.add_argument('--port', type=int, default=7860, help='default 7860')
    take_checkpoint(parser, None)
    args = parser.parse_args(argv)
    if len(args.models) % 2:
        parser.error(f'--models expects NAME CKPT, or several pairs of them, got {args.models}')
    if not 0 < args.port < 65536:
        parser.error(f'--port expects 1 to 65535, got {args.port}')
    return args


def find_choices(given: list[str]) -> list[Choice]:
    """The models that were given, a config and a checkpoint in turn, then those of work dirs.

    Raises UserError for a given one that is not there, and where there are none at all.
    """
    choices = [make_choice(*pair) for pair in zip(given[::2], given[1::2], strict=True)]
    known = {Path(choice.checkpoint).resolve() for choice in choices}
    for config, checkpoint in find_runs():
        if checkpoint.resolve() not in known:
            try:
                choices.append(make_choice(config, str(checkpoint)))
            except UserError as error:
                print(f'warning: passed over {checkpoint}: {error}', file=sys.stderr)
    if not choices:
        raise UserError(
            f'no checkpoints under {WORK_DIRS}; name a model by --models NAME CKPT, or train one: '
            'python tools/train.py configs/cls/lolvit_x_digits.py'
        )
    return choices


def make_choice(config: str, checkpoint: str) -> Choice:
    """Raises UserError for a config that cannot be read and a file that does not exist."""
    _, task = load_config(config, {}, ('model', 'test_dataloader'))
    if '://' not in checkpoint and not Path(checkpoint).is_file():
        raise UserError(f'checkpoint {checkpoint} does not exist')
    return Choice(config, TASKS[task.scope], checkpoint)


def find_runs() -> Iterator[tuple[str, Path]]:
    """Config and checkpoint, the newest first, of each work dir.

    The config is the one that the run wrote there, or else the package's of the folder's name.
    """
    for folder in sorted(WORK_DIRS.glob('*/')):
        written = list(folder.glob('*.py'))
        if len(written) == 1:
            config = str(written[0])
        elif folder.name in list_models():
            config = folder.name
        else:
            continue
        files = sorted(folder.glob('*.pth'), key=lambda file: file.stat().st_mtime, reverse=True)
        yield from ((config, file) for file in files)


def build_page(choices: list[Choice]):
    """The page, a `gradio.Blocks`, and what its `launch` needs for its looks."""
    import gradio as gr

    def answer(index: int, file: str | None):
        shown, image, picture, found, text = gr.Column(visible=False), None, None, None, ''
        try:
            if file is not None:
                image, picture, found, text = answer_file(choices[index], file)
                shown = gr.Column(visible=True)
        except Exception as error:
            text = tell_error(error, file)
        return image, picture, found, text, shown

    def attend(index: int, file: str | None, place: Sequence[int] | None = None):
        try:
            return file and draw_attention_at(choices[index], file, place), ''
        except Exception as error:
            return None, tell_error(error, file)

    def attend_at_click(index: int, file: str | None, event: gr.SelectData):
        return attend(index, file, event.index)

    with gr.Blocks(title='LOLViT', analytics_enabled=False, delete_cache=(3600, 3600)) as page:
        gr.Markdown('# LOLViT')
        with gr.Row():
            labels = label_choices(choices)
            model = gr.Dropdown(
                [(label, i) for i, label in enumerate(labels)], label='Model', min_width=NARROW
            )
            file = gr.File(
                label='Image', file_types=list(IMAGES), height=120, min_width=NARROW, elem_id='file'
            )
        text = gr.HTML(elem_id='text', padding=False)
        with gr.Column(visible=False) as shown:
            with gr.Row():
                look = dict(format='png', interactive=False, height=420, min_width=NARROW)
                image = gr.Image(
                    label='Click on a pixel to see what it attends to', elem_id='image', buttons=[],
                    **look,
                )  # fmt: skip
                picture = gr.Image(label='Answer', elem_id='picture', buttons=BUTTONS, **look)
            gr.Markdown('### What the pixel reads in each Fast Window Attention')
            note = gr.HTML(elem_id='note', padding=False)
            attention = gr.Image(
                show_label=False, elem_id='attention', format='png', interactive=False,
                buttons=BUTTONS,
            )  # fmt: skip
            with gr.Accordion('Answer as JSON', open=False):
                found = gr.JSON(show_label=False, elem_id='found')
        # One at a time: to see a model's attention is to change the model for a moment.
        turn = dict(concurrency_id='model', concurrency_limit=1, trigger_mode='always_last')
        chosen, attended = [model, file], [attention, note]
        answered = [image, picture, found, text, shown]
        events = [model.change, file.change]
        gr.on(events, answer, chosen, answered, **turn).then(attend, chosen, attended, **turn)
        image.select(attend_at_click, chosen, attended, **turn)
    # Fonts of the machine: none are fetched.
    theme = gr.themes.Default(font=['system-ui', 'sans-serif'], font_mono=['monospace'])
    return page, dict(theme=theme, css=CSS)


def label_choices(choices: list[Choice]) -> list[str]:
    """Names for people, with the folder of the checkpoint where its name would not do."""

    def label(choice: Choice, checkpoint: str) -> str:
        return f'{choice.task}: {Path(choice.config).stem}, {checkpoint}'

    short = [label(choice, Path(choice.checkpoint).name) for choice in choices]
    return [
        name if short.count(name) == 1 else label(choice, choice.checkpoint)
        for name, choice in zip(short, choices, strict=True)
    ]


@lru_cache(maxsize=KEPT)
def load_once(choice: Choice) -> Predictor:
    return load(choice.config, choice.checkpoint)


def answer_file(choice: Choice, file: str) -> tuple[np.ndarray, np.ndarray, dict | list, str]:
    """The image to click on and the answer as a picture, for JSON and as HTML; raises UserError."""
    predictor = load_once(choice)
    image = predictor.read(file)
    sample, latency = predict(predictor, image)
    found, classes = predictor.answer(sample), predictor.meta['classes']
    text = f'<p class="answer">{escape(headline(found, classes))}</p>'
    text += f'<p class="note">{escape(latency)}</p>'
    picture = predictor.draw(image['img'], sample, SCORE_THR)
    return to_click(image['img'])[0], picture, summarize(found, classes), text


def predict(predictor: Predictor, image: dict) -> tuple[object, str]:
    """The sample predicted on what `Predictor.read` gave, and how long that takes, in words."""
    times = []
    for _ in range(1 + RUNS):
        start = time.perf_counter()
        ((_, sample),) = predictor.predict(iter([image]))
        predictor.answer(sample)  # on the CPU: it waits for a GPU
        times.append(1000 * (time.perf_counter() - start))
    device = next(predictor.model.parameters(), torch.empty(0)).device.type
    where = f'the CPU, threads: {torch.get_num_threads()}' if device == 'cpu' else device
    return sample, (
        f'{statistics.median(times[1:]):.1f} ms from pixels to answer, median of {RUNS} runs after '
        f'a first one, on {where}'
    )


def headline(answer: dict, classes: tuple[str, ...]) -> str:
    """An answer of `Predictor` in a line."""
    if 'map' in answer:
        shares = list(summarize(answer, classes).items())[:LISTED]
        return ', '.join(f'{name}: {share:.0%}' for name, share in shares if share >= 0.005)
    if 'boxes' in answer:
        names = [row['name'] for row in summarize(answer, classes)]
        return f'{len(names)} found' + (f': {", ".join(names)}' if names else '')
    return f'{answer["name"]}: {answer["score"]:.1%}'


def summarize(answer: dict, classes: tuple[str, ...]) -> dict | list:
    """An answer of `Predictor` for JSON: best scores, boxes that are drawn, or shares of a map."""
    if 'map' in answer:
        labels, counts = np.unique(answer['map'], return_counts=True)
        order = np.argsort(-counts, kind='stable')
        shares = counts / answer['map'].size
        return plain({name_of(classes, labels[i]): shares[i] for i in order})
    if 'boxes' in answer:
        rows = zip(answer['names'], answer['scores'], answer['boxes'], strict=True)
        return plain(
            [dict(name=n, score=s, box=box.round(1)) for n, s, box in rows if s >= SCORE_THR]
        )
    best = np.argsort(-answer['scores'], kind='stable')[:LISTED]
    return plain({name_of(classes, label): answer['scores'][label] for label in best})


def to_click(image: np.ndarray) -> tuple[np.ndarray, float]:
    """An image, BGR, as RGB of a size to click on, and how many times larger that is."""
    height, width = image.shape[:2]
    if max(height, width) > LARGEST:
        factor = LARGEST / max(height, width)
        size = (max(1, round(width * factor)), max(1, round(height * factor)))
        image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    else:
        image = enlarge(image)
    return image[..., ::-1], image.shape[1] / width


def draw_attention_at(choice: Choice, file: str, place: Sequence[int] | None) -> np.ndarray:
    """RGB of what each FWA reads at a place of `to_click`'s image; default: its center.

    Raises UserError as `image_attention` does, and for an exported model.
    """
    if Path(choice.checkpoint).suffix == '.onnx':
        raise UserError(
            'the inside of an exported model cannot be seen: choose the checkpoint that it is from'
        )
    predictor = load_once(choice)
    image = predictor.read(file)['img']
    height, width = image.shape[:2]
    pixel = (width // 2, height // 2)
    if place is not None:
        factor = to_click(image)[1]
        pixel = tuple(
            min(int(at / factor), size - 1) for at, size in zip(place, (width, height), strict=True)
        )
    png = draw_attention(image, image_attention(predictor, image), [pixel])
    return cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_COLOR)[..., ::-1]


def tell_error(error: Exception, file: str) -> str:
    """HTML of what the user can mend, without the folder that a page's files lie in."""
    message = explain(error)
    if message is None:
        raise error
    return f'<p class="error">{escape(message.replace(file, Path(file).name))}</p>'
