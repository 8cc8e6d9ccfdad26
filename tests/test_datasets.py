import errno
import hashlib
import itertools
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pytest
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.runner import Runner
from pycocotools.coco import COCO

from mmlolvit.datasets import (
    CueDataset,
    build_digits,
    build_scenes,
    draw_cue,
    draw_scene,
    ensure_embedded,
    load_split,
)
from mmlolvit.datasets.cue import FORMS
from mmlolvit.datasets.digits import split_indices
from mmlolvit.datasets.scenes import CONTRAST, OVERLAP, overlap
from mmlolvit.errors import UserError

CONFIGS = Path(__file__).parents[1] / 'configs'
DIGITS_SHA256 = '67840f553b26436f019c5d3afc684081cbd58e757dc04365cc2f2b3fbf0da133'
SCENES_SHA256 = '7534d34b4660e3d5040d85d4864d3fdec5a4966af2da1c5d5d3cc9b8c5e8fa75'


@pytest.fixture(scope='module')
def digits_root(tmp_path_factory):
    return build_digits(tmp_path_factory.mktemp('data') / 'digits')


def load_config(name):
    init_default_scope('mmpretrain')
    return Config.fromfile(CONFIGS / 'cls' / name)


def test_datasets_import_without_mmpretrain():
    code = "import sys; sys.modules['mmpretrain'] = None; import mmlolvit.datasets"
    subprocess.run([sys.executable, '-c', code], check=True)


def test_without_scikit_learn_the_embedded_sets_say_what_to_install(tmp_path):
    code = (
        "import sys; sys.modules['sklearn.datasets'] = None; from mmlolvit.datasets import *\n"
        "build_digits('digits')"
    )
    done = subprocess.run(
        [sys.executable, '-c', code], cwd=tmp_path, capture_output=True, text=True
    )
    assert 'UserError: the embedded data sets are made' in done.stderr
    assert 'pip install scikit-learn' in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_no_sample_is_in_both_splits():
    train, val = split_indices('train'), split_indices('val')
    assert (len(train), len(val)) == (1437, 360)
    assert sorted([*train, *val]) == list(range(1797))
    pixels = [{image.tobytes() for image in load_split(split)[0]} for split in ('train', 'val')]
    assert not pixels[0] & pixels[1]


def test_every_class_is_in_both_splits():
    for split, fewest in (('train', 139), ('val', 35)):
        assert np.bincount(load_split(split)[1]).min() == fewest


def test_digits_have_the_same_pixels_everywhere(digits_root):
    digest = hashlib.sha256()
    for path in sorted(digits_root.rglob('*.png')):
        image = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        assert image.shape == (64, 64)
        digest.update(path.relative_to(digits_root).as_posix().encode() + image.tobytes())
    assert digest.hexdigest() == DIGITS_SHA256


def test_a_second_build_reuses_the_first(digits_root):
    before = {path: path.stat().st_mtime_ns for path in digits_root.rglob('*')}
    build_digits(digits_root)
    assert {path: path.stat().st_mtime_ns for path in digits_root.rglob('*')} == before


@pytest.mark.parametrize(
    'error, raised',
    [
        (OSError(errno.ENOSPC, 'No space left on device'), UserError),
        (KeyboardInterrupt(), KeyboardInterrupt),
    ],
)
def test_an_interrupted_build_leaves_nothing(tmp_path, monkeypatch, error, raised):
    write_bytes, written = Path.write_bytes, []

    def fail_at_the_hundredth(path, data):
        written.append(path)
        if len(written) == 100:
            raise error
        return write_bytes(path, data)

    monkeypatch.setattr(Path, 'write_bytes', fail_at_the_hundredth)
    with pytest.raises(raised):
        build_digits(tmp_path / 'data' / 'digits')
    assert list((tmp_path / 'data').iterdir()) == []


def test_concurrent_builders_agree(tmp_path):
    root = tmp_path / 'digits'
    with ThreadPoolExecutor(3) as pool:
        assert list(pool.map(build_digits, [root] * 3)) == [root] * 3
    assert list(tmp_path.iterdir()) == [root]
    assert len(list(root.rglob('*.png'))) == 1797


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / 'data').write_text('a file, not a folder')
    with pytest.raises(UserError, match=r'cannot build .*data/digits: Not a directory'):
        build_digits(tmp_path / 'data' / 'digits')


def test_digits_config_builds_its_data_for_mmpretrain(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    cfg = load_config('lolvit_x_digits.py')
    ensure_embedded(cfg)
    for loader, length in ((cfg.train_dataloader, 1437), (cfg.val_dataloader, 360)):
        dataset = Runner.build_dataloader(loader, seed=0).dataset
        assert len(dataset) == length
        assert dataset.metainfo['classes'] == tuple('0123456789')
        for index in (0, length - 1):
            sample = dataset[index]
            assert sample['inputs'].shape == (3, 64, 64)
            folder = Path(sample['data_samples'].img_path).parent.name
            assert folder == str(sample['data_samples'].gt_label.item())


def test_ensure_embedded_leaves_other_configs_alone_and_rejects_unknown_types():
    ensure_embedded(load_config('lolvit_x_in1k.py'))
    with pytest.raises(UserError, match=r"must be one of .*got 'faces'"):
        ensure_embedded(Config(dict(embedded_data=dict(type='faces'))))


@pytest.mark.parametrize('form', FORMS)
def test_cue_is_a_pure_function_of_its_arguments(form):
    image, label, info = draw_cue(form, 'train', 3, 7)
    again, *_ = draw_cue(form, 'train', 3, 7)
    assert image.shape == (*FORMS[form]['shape'], 3) and image.dtype == np.uint8
    assert label in range(10) and label in info['digits']
    assert np.array_equal(image, again)
    for other in (('train', 3, 8), ('train', 4, 7), ('val', 3, 7)):
        assert not np.array_equal(image, draw_cue(form, *other)[0])


@pytest.mark.parametrize('form', FORMS)
def test_cue_names_the_digit_that_the_marks_colour_says(form):
    marks = []
    for index in range(200):
        image, label, info = draw_cue(form, 'val', 0, index)
        x, y = info['centers'][2].astype(int)
        blue, _, red = image[y, x].astype(int)
        mark = int(blue > red)
        assert abs(blue - red) > 100
        assert label == info['digits'][mark]
        marks.append(mark)
    assert 0.4 < np.mean(marks) < 0.6


@pytest.mark.parametrize('form', FORMS)
def test_cue_draws_the_digits_that_it_reports(form):
    known, labels = load_split('train')
    half = sum(FORMS[form]['side']) // 4
    hits = []
    for index in range(100):
        image, _, info = draw_cue(form, 'train', 0, index)
        for (x, y), digit in zip(info['centers'][:2].astype(int), info['digits'], strict=True):
            crop = image[max(y - half, 0) : y + half, max(x - half, 0) : x + half].max(-1)
            crop = cv2.resize(crop, (8, 8), interpolation=cv2.INTER_AREA).astype(float)
            crop = (crop - crop.min()) / np.ptp(crop) * 255
            nearest = np.square(known - crop).sum((1, 2)).argmin()
            hits.append(labels[nearest] == digit)
    assert np.mean(hits) > 0.9


@pytest.mark.parametrize('form, apart', [('near', 95), ('far', 450)])
def test_cue_mark_is_far_from_both_digits(form, apart):
    reach = max(FORMS[form]['side']) / 2 * 2**0.5 + 7  # a digit's corner and the mark's radius
    for index in range(500):
        *digits, mark = draw_cue(form, 'train', 0, index)[2]['centers']
        assert min(np.hypot(*(mark - digit)) for digit in digits) - reach > apart


def test_cue_pairs_are_equal_once_in_ten():
    pairs = [draw_cue('far', 'train', 0, index)[2]['digits'] for index in range(2000)]
    assert 0.08 < np.mean([first == second for first, second in pairs]) < 0.12


def test_cue_is_fresh_every_epoch_and_fixed_in_validation():
    cfg = load_config('lolvit_x_cue_far.py')
    cfg.train_dataloader.dataset.length = cfg.val_dataloader.dataset.length = 64
    train, again, val = (
        Runner.build_dataloader(loader, seed=0)
        for loader in (cfg.train_dataloader, cfg.train_dataloader, cfg.val_dataloader)
    )
    assert train.num_workers == 2 and train.persistent_workers

    def images(loader, epoch):
        loader.sampler.set_epoch(epoch)
        return {image.numpy().tobytes() for batch in loader for image in batch['inputs']}

    first, second = images(train, 0), images(train, 1)
    assert len(first) == len(second) == 64 and not first & second
    assert images(again, 1) == second
    assert images(train, 0) == first
    fixed = images(val, 0)
    assert len(fixed) == 64 and images(val, 1) == fixed and not fixed & (first | second)


@pytest.mark.parametrize('bad', [dict(form='middle'), dict(form='far', split='test')])
def test_cue_dataset_names_what_it_expected(bad):
    with pytest.raises(ValueError, match='must be one of'):
        CueDataset(**bad)


@pytest.fixture(scope='module')
def scenes_root(tmp_path_factory):
    return build_scenes(tmp_path_factory.mktemp('data') / 'scenes')


def test_scenes_are_the_same_everywhere(scenes_root):
    digest = hashlib.sha256()
    for path in sorted(scenes_root.rglob('*.*')):
        digest.update(path.relative_to(scenes_root).as_posix().encode())
        is_image = path.suffix == '.png'
        digest.update(cv2.imread(path, cv2.IMREAD_UNCHANGED) if is_image else path.read_bytes())
    assert digest.hexdigest() == SCENES_SHA256


def test_scenes_read_as_coco_and_as_masks(scenes_root):
    for split, length in (('train', 800), ('val', 200)):
        coco = COCO(scenes_root / f'annotations/{split}.json')
        assert len(coco.imgs) == length
        for image in list(coco.imgs.values())[::20]:
            pixels = cv2.imread(scenes_root / 'images/10k' / split / image['file_name'])
            assert pixels.shape == (image['height'], image['width'], 3)
            masks = scenes_root / 'labels/sem_seg/masks' / split
            semantic = cv2.imread(masks / image['file_name'], cv2.IMREAD_UNCHANGED)
            found = coco.imgToAnns[image['id']]
            assert 3 <= len(found) <= 8
            want = np.zeros_like(semantic)
            for annotation in found:
                mask = coco.annToMask(annotation)
                x, y, w, h = map(int, annotation['bbox'])
                assert mask.sum() == mask[y : y + h, x : x + w].sum() == annotation['area'] > 0
                assert not want[mask > 0].any()
                want[mask > 0] = 1 + annotation['category_id']
            assert np.array_equal(semantic, want)


@pytest.mark.parametrize('split', ['train', 'val'])
def test_scene_digits_stand_out_and_apart(split):
    for index in range(50):
        image, digits = draw_scene(split, index)
        grey = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY).astype(int)
        boxes = []
        for _, mask in digits:
            near = cv2.dilate(mask.astype(np.uint8), np.ones((9, 9))) > 0
            ground = near & ~np.logical_or.reduce([other for _, other in digits])
            assert np.abs(grey[mask] - np.median(grey[ground])).max() > CONTRAST / 2
            x, y, w, h = cv2.boundingRect(mask.astype(np.uint8))
            boxes.append(np.array((x, y, x + w, y + h)))
        for a, b in itertools.combinations(boxes, 2):
            assert overlap(a, b) <= OVERLAP + 0.02  # the lower one's box may have shrunk


def test_scenes_of_the_two_splits_differ():
    assert not np.array_equal(draw_scene('train', 0)[0], draw_scene('val', 0)[0])
    with pytest.raises(ValueError, match='split must be one of'):
        draw_scene('test', 0)
