"""Files from strangers: images of every kind and annotations that are meant to break things."""

import base64
import json
import math
import os
import shutil
import struct
import subprocess
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from mmengine.registry import MODELS, init_default_scope
from PIL import Image
from pycocotools.mask import decode, encode, frPyObjects, iou

import mmlolvit
from mmlolvit.analysis.logs import LOG
from mmlolvit.analysis.results import RESULTS
from mmlolvit.checkpoints import read_checkpoint
from mmlolvit.cli.analyze_results import (
    build_test_set,
    compare,
    parse,
    read_tested,
    write_report,
)
from mmlolvit.cli.check_dataset import main as check_dataset
from mmlolvit.cli.data import COCO_FIELDS, read_coco
from mmlolvit.cli.infer import main as infer
from mmlolvit.cli.plot_runs import main as plot_runs
from mmlolvit.datasets import ensure_embedded
from mmlolvit.errors import UserError
from mmlolvit.images import max_pixels
from mmlolvit.zoo import load_config, read_config

from .helpers import inside, threads

NAME = 'lolvit_xx_digits'
READS_GIF = int(cv2.__version__.split('.')[0]) >= 5
MOVING = ('moves.webp', 'moves.gif') if READS_GIF else ('moves.webp',)
PIXELS = np.random.default_rng(0).integers(256, size=(40, 60, 3), dtype=np.uint8)  # RGB


def header(width: int, height: int) -> bytes:
    """A PNG that says to be this large, and has no pixels."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        whole = kind + content
        return struct.pack('>I', len(content)) + whole + struct.pack('>I', zlib.crc32(whole))

    start = chunk(b'IHDR', struct.pack('>IIBBBBB', width, height, 8, 2, 0, 0, 0))
    data = chunk(b'IDAT', zlib.compress(b'\0' * 1000))
    return b'\x89PNG\r\n\x1a\n' + start + data + chunk(b'IEND', b'')


@pytest.fixture(scope='module')
def workspace(tmp_path_factory):
    """A folder of readable and of unreadable images, with weights that answer."""
    with inside(tmp_path_factory.mktemp('hostile')) as folder, threads(1):
        cfg = read_config(NAME)
        init_default_scope(cfg.default_scope)
        torch.save(dict(state_dict=MODELS.build(cfg.model).state_dict()), 'cls.pth')
        for name in ('good', 'bad'):
            Path(name).mkdir()
        image, bgr = Image.fromarray(PIXELS), PIXELS[..., ::-1]
        image.save('good/rgb.png')
        image.save('good/png_called.jpg', 'png')
        image.convert('L').save('good/grey.png')
        image.convert('L').convert('1').save('good/bits.png')
        image.convert('CMYK').save('good/cmyk.jpg', quality=100)
        image.quantize(256).save('good/palette.png')
        Image.new('RGB', (1, 1)).save('good/one.png')
        cv2.imwrite('good/sixteen.png', bgr.astype(np.uint16) * 257)
        cv2.imwrite('good/alpha.png', np.dstack([bgr, np.full((40, 60), 7, np.uint8)]))
        other = Image.fromarray(255 - PIXELS)
        for name in MOVING:
            options = dict(lossless=True) if name.endswith('webp') else {}
            image.save(f'good/{name}', save_all=True, append_images=[other], **options)
        turned = Image.Exif()
        turned[0x112] = 6  # to be turned by 90 degrees
        image.save('good/turned.jpg', exif=turned, quality=100, subsampling=0)

        whole = Path('good/rgb.png').read_bytes()
        Path('bad/zero.png').touch()
        Path('bad/text.png').write_text('no image')
        Path('bad/cut.png').write_bytes(whole[: len(whole) // 2])
        Path('bad/bomb.png').write_bytes(header(30000, 30000))
        Path('bad/large.png').write_bytes(header(2**31 - 1, 2**31 - 1))
        Path('bad/flat.png').write_bytes(header(0, 7))
        shutil.copy('good/rgb.png', 'bad/long.png')
        os.truncate('bad/long.png', 8 * max_pixels() + 1)  # takes no room
        yield folder


@pytest.mark.parametrize(
    ('name', 'shape'),
    [('one.png', (1, 1)), ('turned.jpg', (60, 40))]
    + [(name, (40, 60)) for name in ('grey.png', 'bits.png', 'cmyk.jpg', 'palette.png')]
    + [(name, (40, 60)) for name in ('rgb.png', 'png_called.jpg', 'sixteen.png', 'alpha.png')]
    + [(name, (40, 60)) for name in MOVING],
)
def test_images_of_every_kind_are_read_as_documented(workspace, name, shape):
    """As docs/reliability.md has it: three channels of 8 bits, upright, the first that moves."""
    read = mmlolvit.load(NAME, 'cls.pth').read(f'good/{name}')['img']
    assert (read.shape, read.dtype) == ((*shape, 3), np.uint8)
    exact = ('rgb.png', 'png_called.jpg', 'sixteen.png', 'alpha.png', 'moves.webp')
    nearly = ('cmyk.jpg', 'palette.png', 'moves.gif')
    if name in exact + nearly:
        far = np.abs(read[..., ::-1].astype(int) - PIXELS).mean()
        assert far < (1e-9 if name in exact else 20)
    if name == 'turned.jpg':
        upright = np.rot90(PIXELS, -1)
        assert np.abs(read[..., ::-1].astype(int) - upright).mean() < 20


@pytest.mark.parametrize(
    ('name', 'reason'),
    [
        ('zero.png', 'the file is empty'),
        ('text.png', 'no header of an image'),
        ('cut.png', 'cut short, damaged'),
        ('bomb.png', f'30000 x 30000, more than {max_pixels()} pixels'),
        ('large.png', 'more than'),
        ('flat.png', ''),
        ('long.png', f'{8 * max_pixels() + 1} bytes, more than'),
    ],
)
def test_what_is_no_image_is_named_with_the_reason(workspace, name, reason):
    with pytest.raises(UserError, match=f'{name} cannot be read as an image: .*{reason}'):
        mmlolvit.load(NAME, 'cls.pth')(f'bad/{name}')


@pytest.mark.parametrize('limit', ['many', '', '-1', '9' * 30])
def test_a_limit_of_pixels_that_is_no_number_is_told(limit):
    """OpenCV aborts the process that imports it."""
    program = 'import mmlolvit.images, cv2; print(mmlolvit.images.max_pixels())'
    env = dict(os.environ, OPENCV_IO_MAX_IMAGE_PIXELS=limit)
    done = subprocess.run([sys.executable, '-c', program], env=env, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, f'{2**28}\n')
    assert f'OPENCV_IO_MAX_IMAGE_PIXELS must be a whole number, got {limit!r}' in done.stderr


def test_unreadable_images_do_not_keep_the_rest_from_being_answered(workspace, capsys):
    assert infer([NAME, 'cls.pth', 'good', 'bad', '--out', 'answers', '--write', 'jsonl']) == 1
    lines = Path('answers/predictions.jsonl').read_text().splitlines()
    assert len(lines) == len(list(Path('good').iterdir()))
    said = capsys.readouterr().err
    assert all(f'bad/{name}.png cannot be read' in said for name in ('zero', 'cut', 'bomb'))


COCO = dict(
    images=[dict(id=1, file_name='1.png', width=8, height=8)],
    annotations=[
        dict(id=1, image_id=1, category_id=1, bbox=[0, 0, 4, 4], area=16, iscrowd=0),
        dict(id=2, image_id=1, category_id=1, bbox=[1, 1, 4, 4], area=16, iscrowd=0),
    ],
    categories=[dict(id=1, name='a')],
)


def write(content, path: str = 'a.json') -> str:
    Path(path).write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def change(key: str, **fields) -> dict:
    changed = json.loads(json.dumps(COCO))
    changed[key][0] |= fields
    return changed


@pytest.mark.parametrize(
    ('content', 'words'),
    [
        ('[' * 200_000, 'nested too deep'),
        ('{"images": [' + '9' * 5000 + ']}', 'not JSON'),
        (change('annotations', bbox=[0, 0, float('nan'), 4]), 'expected numbers in bbox'),
        (change('annotations', bbox=[0, 0, float('inf'), 4]), 'expected numbers in bbox'),
        (change('annotations', bbox=[0, 0, 1e300, 4]), 'expected numbers in bbox'),
        (change('annotations', area=10**400), 'expected numbers in bbox'),
        (change('annotations', image_id=[1]), 'ids'),
        (change('annotations', image_id={}), 'ids'),
        (change('images', width=10**6, height=10**6), 'pixels'),
        (change('images', width=0), 'pixels'),
        (change('images', file_name=3), 'texts as file_name'),
        (change('images', file_name='../../etc/passwd'), 'outside of data'),
        (change('images', file_name='/etc/passwd'), 'outside of data'),
        (
            change('annotations', segmentation=dict(size=[10**5, 10**5], counts='0')),
            'mask of annotation 1 is of size',
        ),
        (
            change('annotations', segmentation=[[0, 0, 5e6, 0, 5e6, 5e6]]),
            'outline that is too long',
        ),
        (change('annotations', segmentation=[[0, 0, 8, float('nan'), 8, 8]]), 'outline that is'),
        (change('annotations', segmentation=[['a', 0, 8, 0, 8, 8]]), 'outline that is'),
        (change('annotations', segmentation=[0, 0, 8, 0, 8, 8]), 'neither a list of polygons'),
        (change('annotations', segmentation=5), 'neither a list of polygons'),
        (change('annotations', segmentation=dict(size=[4, 16], counts=[64])), 'is of size'),
        (change('annotations', segmentation=dict(size=[8, 8], counts=[0, 65])), 'no RLE of 8 x 8'),
        (change('annotations', segmentation=dict(size=[8, 8], counts=[5])), 'no RLE of 8 x 8'),
        (change('annotations', segmentation=dict(size=[8, 8], counts=[1.5, 62.5])), 'no RLE'),
        (change('annotations', segmentation=dict(size=[8, 8], counts=64)), 'no RLE'),
        (change('annotations', segmentation=dict(size=[8, 8], counts='o' * 50_000)), 'no RLE'),
        (change('annotations', iscrowd=None), '0 or 1 as iscrowd'),
        (change('annotations', iscrowd='x'), '0 or 1 as iscrowd'),
        ('\ufeff' + json.dumps(COCO), 'not JSON: .* BOM'),
    ],
)
def test_annotations_that_would_break_or_escape_are_refused(tmp_path, content, words):
    with inside(tmp_path):
        assert read_coco(write(COCO), dict(data_root='data'))
        drawn = [[x % 4000 for x in range(5000)], []]  # finely, in a large image
        assert read_coco(write(change('annotations', segmentation=drawn)), dict(data_root='data'))
        with pytest.raises(UserError, match=words):
            read_coco(write(content), dict(data_root='data', data_prefix=dict(img='images')))


LISTS = {
    'lolvit_xx_digits': ('data/digits', 'train.txt', '{} 3'),
    'fpn_lolvit_xx_digits_short': ('data/scenes', 'train.txt', '{}'),
}


@pytest.mark.parametrize('name', LISTS)
def test_lists_that_escape_are_refused(tmp_path, name, capsys):
    root, file, line = LISTS[name]
    with inside(tmp_path):
        assert check_dataset([name]) == 0
        write(f"_base_ = 'mmlolvit::{name}'\n", 'a.py')
        options = ['--cfg-options', f'train_dataloader.dataset.ann_file={file}']
        for escape in ('../../../../secret', '/etc/secret', 'a/../../../../../secret'):
            write(f'{line.format("a/../b")}\n{line.format(escape)}\n', f'{root}/{file}')
            capsys.readouterr()
            assert check_dataset([name, *options]) == 2
            assert f'{file} names an image outside of {root}: ' in capsys.readouterr().err
        write(f'\ufeff{line.format("a/b")}\n', f'{root}/{file}')
        assert check_dataset([name, *options]) == 2
        assert f'{root}/{file} begins with a byte order mark' in capsys.readouterr().err


def test_ids_that_occur_twice_are_found(tmp_path, capsys):
    """An annotation's, of which pycocotools would keep the last."""
    with inside(tmp_path):
        config = "_base_ = 'mmlolvit::det/retinanet_lolvit_xx_digits_short.py'\n"
        loader = "dict(dataset=dict(ann_file='annotations/twice.json'))\n"
        write(config + f'train_dataloader = {loader}', 'twice.py')
        assert check_dataset(['retinanet_lolvit_xx_digits_short']) == 0
        content = json.loads(Path('data/scenes/annotations/train.json').read_text())
        content['annotations'][1]['id'] = content['annotations'][0]['id']
        write(content, 'data/scenes/annotations/twice.json')
        capsys.readouterr()
        assert check_dataset(['twice.py']) == 2
        assert 'twice.json' in (said := capsys.readouterr().err) and 'not unique' in said


# What we parse ourselves answers or says what is wrong, whatever comes.
FUZZ = settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner),
    max_leaves=8,
)
ENTRIES = {
    key: st.lists(st.fixed_dictionaries({}, optional=dict.fromkeys(fields, VALUES)), max_size=3)
    for key, fields in COCO_FIELDS.items()
}


@FUZZ
@given(st.fixed_dictionaries({}, optional=ENTRIES) | VALUES, st.booleans())
@example(dict(images=[], annotations=[], categories=[]), False)
def test_any_annotation_file_is_read_or_refused(tmp_path_factory, content, test_mode):
    path = tmp_path_factory.getbasetemp() / 'any.json'
    try:
        found = read_coco(write(content, str(path)), dict(test_mode=test_mode))
    except UserError:
        return
    assert set(COCO_FIELDS) <= set(found)


RLES = st.text('0123456789:;<=>?@XYZ`abcno\x7f', max_size=6) | st.lists(
    st.integers(-9, 70), max_size=4
)


@FUZZ
@given(VALUES | RLES.map(lambda counts: dict(size=[8, 8], counts=counts)))
@example(dict(size=[8, 8], counts=[0, 30, 34]))
@example(dict(size=[8, 8], counts='T2'))
@example(dict(size=[8, 8], counts='P'))
@example([[1, 1]])
def test_any_mask_is_read_or_refused(tmp_path_factory, mask):
    path = tmp_path_factory.getbasetemp() / 'mask.json'
    try:
        read_coco(write(change('annotations', segmentation=mask), str(path)), {})
    except UserError:
        return
    if isinstance(mask, dict) and mask:
        rle = frPyObjects(mask, 8, 8) if isinstance(mask['counts'], list) else mask
        full = encode(np.asfortranarray(np.ones((8, 8), np.uint8)))
        assert iou([rle], [full], [0]) == decode(rle).mean()


@FUZZ
@given(st.integers(1, 40).flatmap(lambda n: st.lists(st.booleans(), min_size=n, max_size=n)))
def test_a_mask_that_pycocotools_compressed_is_read(tmp_path_factory, pixels):
    rle = encode(np.asfortranarray([np.repeat(pixels, 50)], np.uint8))
    content = change('images', height=1, width=50 * len(pixels))
    content['annotations'][0]['segmentation'] = dict(rle, counts=rle['counts'].decode())
    path = tmp_path_factory.getbasetemp() / 'mask.json'
    assert read_coco(write(content, str(path)), {})


LINE = st.fixed_dictionaries(
    dict(step=st.integers(0, 30) | VALUES),
    optional={
        'epoch': st.integers(1, 4) | VALUES,
        'iter': st.just(1),
        'loss': st.floats() | VALUES,
        'mIoU': st.floats() | VALUES,
        '$^$': st.floats(),
    },
)


def lines(*records: dict) -> bytes:
    """A log of these lines, and of one that is whole."""
    return '\n'.join(map(json.dumps, (*records, GOOD_LINE))).encode()


GOOD_LINE = dict(step=1, iter=1, epoch=1, loss=0.5)


@settings(FUZZ, max_examples=30)
@given(st.binary(max_size=300) | st.lists(LINE, max_size=5).map(lambda found: lines(*found)))
@example(b'{"step": Infinity}\n{"step": 1}')
@example(b'{"step": 1, "loss": NaN}\n[]\n{}')
@example(b'[' * 100_000)
@example(b'{"step": 1, "iter": 1}')
@example(b'{"step": 1, "iter": 1, "lr": 0.1}')
@example(b'{"step": 1, "iter": 1, "\\ud800": 0.1}\n{"step": 1}')
@example(lines(dict(GOOD_LINE, epoch=0)))
@example(lines(dict(GOOD_LINE, epoch='a')))
@example(lines(dict(GOOD_LINE, epoch=None)))
@example(lines(dict(GOOD_LINE, epoch=[1])))
@example(lines(dict(GOOD_LINE, step=10**400)))
@example(lines(dict(GOOD_LINE, loss=10**400)))
@example(lines(dict(GOOD_LINE, loss=1e308), dict(GOOD_LINE, loss=-1e308, step=2)))
@example(lines({**GOOD_LINE, r'$\frac$': 1.0}))
def test_any_log_is_drawn_or_refused(tmp_path_factory, content):
    folder = tmp_path_factory.getbasetemp() / 'any_log'
    (folder / LOG).parent.mkdir(parents=True, exist_ok=True)
    (folder / LOG).write_bytes(content)
    picture = folder / 'runs.png'
    picture.unlink(missing_ok=True)
    code = plot_runs([str(folder), '--out', str(picture), '--keys', '*'])
    assert (code, picture.is_file()) in ((0, True), (2, False))


SQUARE = np.zeros((160, 160), np.uint8, order='F')
SQUARE[:9, :9] = 1
MASK = dict(size=[160, 160], counts=encode(SQUARE)['counts'].decode())


def to_text(pixels: np.ndarray) -> str:
    return base64.b64encode(cv2.imencode('.png', pixels)[1]).decode()


MAP = to_text(np.arange(160**2, dtype=np.uint16).reshape(160, 160) % 11)
TESTED = {  # a prediction as tools/test.py writes it, of each task
    'lolvit_xx_digits': dict(
        pred_label=3, gt_label=0, top_labels=[3, 0, 1, 2, 4], top_scores=[0.5, 0.2, 0.1, 0.1, 0.1]
    ),
    'mask-rcnn_lolvit_x_digits': dict(
        boxes=[[4.0, 4.0, 40.0, 40.0], [0.0, 0.0, 9.0, 9.0]],
        labels=[0, 1],
        scores=[0.9, 0.8],
        masks=[MASK, MASK],
    ),
    'fpn_lolvit_xx_digits_short': dict(map_png=MAP),
}
CLS, DET, SEG = TESTED


@pytest.fixture(scope='module')
def analyze(tmp_path_factory):
    """What tools/analyze_results.py does with a file: a value in the place of a part of it."""
    known = {}

    def change(content, place: tuple, value):
        if not place:
            return value
        content[place[0]] = change(content[place[0]], place[1:], value)
        return content

    def run(name: str, place: tuple, value) -> None:
        if name not in known:
            cfg, task = load_config(name, {'test_dataloader.dataset.indices': 2}, ())
            ensure_embedded(cfg)
            init_default_scope(cfg.default_scope)
            known[name] = cfg, task, build_test_set(cfg)
        cfg, task, dataset = known[name]
        init_default_scope(cfg.default_scope)
        images = [dict(image=dataset.get_data_info(i)['img_path'], **TESTED[name]) for i in (0, 1)]
        content = json.loads(json.dumps(dict(metrics={'mIoU': 1.0}, predictions=images)))
        write(change(content, place, value), 'any_predictions.json')
        Path('out/report.md').unlink(missing_ok=True)
        args = parse([name, 'any_predictions.json', '--worst', '1', '--out', 'out'])
        kind = RESULTS[task.scope]
        tested = read_tested(args.predictions, kind, args.config)
        compare(tested['predictions'], dataset, args)
        write_report(kind(cfg, dataset, tested['predictions']), task, tested['metrics'], args)

    with inside(tmp_path_factory.mktemp('predictions')) as folder, threads(1):
        (folder / 'out').mkdir()
        yield run


def damages() -> Iterator[tuple]:
    """Files with one part that is damaged: the task, the part, what it is then, what is said."""
    nan = math.nan
    for key, value in (('accuracy/top1', 'x'), ('accuracy/top1', 10**400), ('\ud800', 1)):
        yield CLS, ('metrics',), {key: value}, 'expected a number as '
    for value, words in (
        (None, 'is None, of the'),
        (5, 'is 5, of the'),
        (['a'], 'as image a path'),
    ):
        yield CLS, ('image',), value, words
    yield CLS, ('pred_label',), 50, 'predicts class 50'
    yield CLS, ('gt_label',), 50, 'have a gt_label 50'
    yield CLS, ('top_labels', 1), 50, 'predicts class 50'
    for key in ('pred_label', 'gt_label'):
        for value in ('3', None, -1, 3.5, [1], True, 10**40):
            yield CLS, (key,), value, f'as {key} one label'
    for value in ([1, 2], [], 'abc', 5, None, {}, [-1] * 5, [1.5] * 5, [[1]] * 5):
        yield CLS, ('top_labels',), value, 'as top_'
    for value in (None, 5, {}, [nan] * 5, [math.inf] * 5, ['a'] * 5, [[1]] * 5):
        yield CLS, ('top_scores',), value, 'as top_scores 5 numbers'
    for value in (None, 5, 'abc', [[1, 2, 3]] * 2, [[None] * 4] * 2, [[nan] * 4] * 2):
        yield DET, ('boxes',), value, 'as boxes '
    for value in ([math.inf] * 4, [1e30, 1e30, 1e31, 1e31], [40, 40, 4, 4]):
        yield DET, ('boxes', 0), value, 'as boxes '
    yield DET, ('labels', 0), 50, 'predicts class 50'
    for value in (None, [0], [-1, 0], ['a', 'b'], [0.5, 0], [10**30, 0]):
        yield DET, ('labels',), value, 'as labels 2 whole numbers'
    for value in ({}, [0.9], ['a', 'b'], [math.inf, 0], [True, False]):
        yield DET, ('scores',), value, 'as scores 2 numbers'
    for value in (None, 5, [MASK], [[1, 2, 3]] * 2, [dict(size=[160, 160])] * 2):
        yield DET, ('masks',), value, 'as masks 2, '
    for value in ([20000, 20000], [159, 160], [-160, -160], [160], [0, 0], [10**9, 10**9], None):
        yield DET, ('masks', 0, 'size'), value, 'as masks 2, '
    yield DET, ('masks', 1, 'size'), [80, 320], r'masks are \[80, 320\], the image is'
    for value in ('zzzz', '\x01\x02', '\u6f22', '', 'o' * 5000, 'oooooooooooo0', [0, 10**6], None):
        yield DET, ('masks', 0, 'counts'), value, 'as masks 2, '
    yield SEG, ('map_png',), None, 'as map_png a PNG'
    for value in ('', '!!!!', 'abcde', '\u6f22', 'aGVsbG8=', MAP[:200], MAP[:-80], MAP[100:]):
        yield SEG, ('map_png',), value, 'expected a whole PNG in base64'
    bombs = (header(30000, 30000), header(2**31 - 1, 2**31 - 1), header(0, 7))
    for value in bombs:
        yield SEG, ('map_png',), base64.b64encode(value).decode(), 'expected a whole PNG in base64'
    yield SEG, ('map_png',), to_text(np.full((160, 160), 60000, np.uint16)), 'class 60000'
    for shape in ((5, 160), (160, 160, 3)):
        yield SEG, ('map_png',), to_text(np.zeros(shape, np.uint8)), 'are of other data'


@pytest.mark.parametrize(('name', 'place', 'value', 'words'), [*damages()])
def test_damaged_predictions_are_refused(analyze, name, place, value, words):
    if place != ('metrics',):
        place = ('predictions', 0, *place)
    with pytest.raises(UserError, match=words):
        analyze(name, place, value)


def find_places(content, place: tuple = ()) -> Iterator[tuple]:
    yield place
    if isinstance(content, dict | list):
        inner = content.items() if isinstance(content, dict) else enumerate(content)
        for key, part in inner:
            yield from find_places(part, (*place, key))


PLACES = [
    (name, place)
    for name, image in TESTED.items()
    for place in find_places(dict(metrics={}, predictions=[dict(image, image='')]))
]


@settings(FUZZ, max_examples=30)
@given(st.sampled_from(PLACES), VALUES | st.integers(0, 200) | st.floats(0, 200) | st.text('0:o'))
@example((CLS, ('predictions',)), [1])
@example((CLS, ('predictions',)), [None])
@example((CLS, ('metrics',)), {'accuracy/top1': [1], 'mIoU': None})
@example((CLS, ('metrics',)), {'a': {}, 'mIoU': math.nan})
@example((CLS, ('predictions', 0, 'top_scores')), [1, 0, 0, 0, 0])
@example((CLS, ('predictions', 0, 'top_labels')), [1, 1, 1, 1, 1])
@example((DET, ('predictions', 0, 'boxes', 0)), [-(2**31), 0, 2**31, 1])
@example((DET, ('predictions', 0, 'scores')), [1, 0])
def test_any_predictions_are_analysed_or_refused(analyze, place, value):
    try:
        analyze(*place, value)
    except UserError:
        return
    assert Path('out/report.md').is_file()


@pytest.fixture(scope='module')
def checkpoint(tmp_path_factory):
    path = tmp_path_factory.mktemp('fuzz') / 'a.pth'
    torch.save(dict(state_dict=dict(a=torch.arange(64.0)), meta=dict(epoch=1)), path)
    return path.read_bytes()


@FUZZ
@given(st.data())
def test_any_damage_to_a_checkpoint_is_noticed(tmp_path_factory, checkpoint, data):
    """Bytes that are changed, taken out or cut off, in the part that tensors and pickles are in."""
    content = bytearray(checkpoint)
    place = data.draw(st.integers(0, len(content) - 1))
    kind = data.draw(st.sampled_from(['change', 'remove', 'cut']))
    if kind == 'change':
        content[place] ^= data.draw(st.integers(1, 255))
    elif kind == 'remove':
        del content[place]
    else:
        del content[place:]
    path = tmp_path_factory.getbasetemp() / 'damaged.pth'
    path.write_bytes(content)
    try:
        found = read_checkpoint(str(path))
    except UserError:
        return
    torch.testing.assert_close(found['state_dict']['a'], torch.arange(64.0))
