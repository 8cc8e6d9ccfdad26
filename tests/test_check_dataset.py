"""tools/check_dataset.py, and what training and testing make of the same faults."""

import gc
import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from mmengine.config import Config
from mmengine.registry import DATASETS, init_default_scope

from mmlolvit.cli.check_dataset import main as check
from mmlolvit.cli.samples import BadSample, guard
from mmlolvit.cli.test import main as run_test
from mmlolvit.cli.test import use_tta
from mmlolvit.cli.train import main as run_train

from .real_data import jpeg, write_bdd100k, write_coco, write_imagenet

pytestmark = pytest.mark.usefixtures('one_thread')
ROOT = Path(__file__).parents[1]
LOADERS = ('train_dataloader', 'val_dataloader', 'test_dataloader')
HERE = [f'{loader}.num_workers=0' for loader in LOADERS]  # no worker processes

COCO = Path('data/coco')
COCO_TRAIN = COCO / 'annotations/instances_train2017.json'
BDD = Path('data/bdd100k')
MASKS = BDD / 'labels/sem_seg/masks'


def write_folders(root: Path) -> None:
    """Two images in each of ten class folders, in the tree of the digits."""
    for split in ('train', 'val'):
        for i in range(20):
            file = root / split / str(i % 10) / f'{i}.jpg'
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(jpeg(64, 64, i, split))


TREES = {
    'cls/lolvit_x_digits': (write_folders, 'data/digits'),
    'cls/lolvit_x_in1k': (write_imagenet, 'data/imagenet'),
    'det/retinanet_lolvit_x_coco': (write_coco, COCO),
    'det/mask-rcnn_lolvit_x_coco': (write_coco, COCO),
    'seg/fpn_lolvit_x_bdd100k': (write_bdd100k, BDD),
}


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    gc.freeze()  # every data set that is built collects garbage, most of a second among these tests
    yield
    gc.unfreeze()


@pytest.fixture(scope='module')
def trees(tmp_path_factory):
    """Each tree of TREES, written once, by its config."""
    made = {}
    for config, (write, root) in TREES.items():
        if config != 'cls/lolvit_x_in1k':
            made[config] = tmp_path_factory.mktemp('tree')
            write(made[config] / root)
    return made


def path_of(config: str) -> str:
    return str(ROOT / f'configs/{config}.py')


def cut(path) -> None:
    content = Path(path).read_bytes()
    Path(path).write_bytes(content[: len(content) // 2])


def edit(file: Path = COCO_TRAIN, **changes) -> None:
    """Apply `key=function of its list` to a COCO file."""
    content = json.loads(file.read_text())
    for key, change in changes.items():
        content[key] = change(content[key])
    file.write_text(json.dumps(content))


def edit_first(key: str, **fields) -> None:
    edit(**{key: lambda entries: [dict(entries[0], **fields), *entries[1:]]})


def drop_iscrowd() -> None:
    edit(
        COCO / 'annotations/instances_val2017.json',
        annotations=lambda boxes: [
            {key: box[key] for key in box if key != 'iscrowd'} for box in boxes
        ],
    )


def write_truth(**fields) -> None:
    """The validation set with these fields in its first annotation, for an evaluator alone."""
    shutil.copy(COCO / 'annotations/instances_val2017.json', 'truth.json')
    edit(Path('truth.json'), annotations=lambda boxes: [dict(boxes[0], **fields), *boxes[1:]])


def number_annotations(name: Callable) -> None:
    edit(
        COCO / 'annotations/instances_val2017.json',
        annotations=lambda boxes: [dict(box, id=name(n)) for n, box in enumerate(boxes)],
    )


def rename_category(name: str) -> None:
    edit_first('categories', name=name)


def write_mask(mask: np.ndarray, name: str = 'train/0.png') -> None:
    cv2.imwrite(str(MASKS / name), mask)


def copy_decoded(source: str, target: str) -> None:
    """Another file with the same pixels, without loss."""
    Path(target).parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(target, cv2.imread(source))


CLS, DET, SEG = 'cls/lolvit_x_digits', 'det/retinanet_lolvit_x_coco', 'seg/fpn_lolvit_x_bdd100k'
EMPTY_MASK = np.zeros((720, 1280), np.uint8)
# Config, how to spoil its tree, what the finding says, options of the config.
FAULTS = {
    'cut image': (CLS, lambda: cut('data/digits/train/3/3.jpg'), ('decoded', 'train/3/3.jpg')),
    'empty image': (
        CLS,
        lambda: Path('data/digits/val/3/3.jpg').write_bytes(b''),
        ('decoded', 'val/3/3.jpg'),
    ),
    'empty class folder': (
        CLS,
        lambda: [file.unlink() for file in Path('data/digits/train/3').iterdir()],
        ('class folders without an image (1)', '3'),
    ),
    'class folder of training alone': (
        CLS,
        lambda: Path('data/digits/val/3').rename('data/digits/val/three'),
        ('classes are not those of the first data set', 'three'),
    ),
    'extension': (
        CLS,
        lambda: copy_decoded('data/digits/train/3/3.jpg', 'data/digits/train/3/4.webp'),
        ('images that are not read', '4.webp'),
    ),
    'image beside the class folders': (
        CLS,
        lambda: Path('data/digits/train/9.jpg').write_bytes(jpeg(64, 64, 77, 'train')),
        ('images that are not read', '9.jpg'),
    ),
    'label in a list': (
        CLS,
        lambda: Path('data/digits/train.txt').write_text('3/3.jpg 3\n4/4.jpg 10\n'),
        ('label out of range', '4.jpg has 10', 'expected 0 to 9'),
        'train_dataloader.dataset.ann_file=train.txt',
    ),
    'label of 30 digits in a list': (
        CLS,
        lambda: Path('data/digits/train.txt').write_text(f'3/3.jpg 3\n4/4.jpg {"9" * 30}\n'),
        ('label out of range', f'4.jpg has {"9" * 30}'),
        'train_dataloader.dataset.ann_file=train.txt',
    ),
    'pipe in a list': (
        CLS,
        lambda: [
            os.mkfifo('data/digits/train/4/pipe.jpg'),
            Path('data/digits/train.txt').write_text('3/3.jpg 3\n4/pipe.jpg 4\n'),
        ],
        ('image cannot be read: it is no file', 'pipe.jpg'),
        'train_dataloader.dataset.ann_file=train.txt',
    ),
    'pipe among the images': (
        CLS,
        lambda: os.mkfifo('data/digits/train/pipe'),
        ('neither files nor folders', 'train/pipe'),
    ),
    'link to nothing': (
        CLS,
        lambda: Path('data/digits/train/4/link.jpg').symlink_to('gone.jpg'),
        ('neither files nor folders', '4/link.jpg'),
    ),
    'missing image in a list': (
        CLS,
        lambda: Path('data/digits/train.txt').write_text('3/3.jpg 3\n4/gone.jpg 4\n'),
        ('image cannot be read: No such file', 'gone.jpg'),
        'train_dataloader.dataset.ann_file=train.txt',
    ),
    'ignore_empty': (
        CLS,
        lambda: Path('data/digits/train/3/3.jpg').write_bytes(b''),
        ('image cannot be read', 'train/3/3.jpg', 'ignore_empty'),
        'train_dataloader.dataset.pipeline.0.ignore_empty=True',
    ),
    'small head': (
        CLS,
        lambda: None,
        ('model.head.num_classes=5', '10 classes'),
        'model.head.num_classes=5',
    ),
    'cut jpeg of COCO': (DET, lambda: cut(COCO / 'train2017/1.jpg'), ('decoded', '1.jpg')),
    'missing jpeg of COCO': (
        DET,
        lambda: (COCO / 'val2017/1.jpg').unlink(),
        ('image cannot be read: No such file', 'val2017/1.jpg'),
    ),
    'annotation without image': (
        DET,
        lambda: edit_first('annotations', image_id=77),
        ('annotations without an image', 'annotation 1, image_id 77'),
    ),
    'repeated image id': (
        DET,
        lambda: edit(images=lambda images: [*images, images[0]]),
        ('image ids that occur twice',),
    ),
    'category id': (
        DET,
        lambda: edit_first('annotations', category_id=91),
        ('class ids out of range', 'category_id 91'),
    ),
    'category name': (
        DET,
        lambda: rename_category('human'),
        ('class names differ', "file: ('human',", "config: ('person',"),
    ),
    'category order': (
        DET,
        lambda: edit(categories=lambda names: names[::-1]),
        ('class names differ', "file: ('toothbrush',", "config: ('person',"),
    ),
    'category of no class': (
        DET,
        lambda: edit(
            categories=lambda names: [*names, dict(id=99, name='helmet')],
            annotations=lambda boxes: [dict(boxes[0], category_id=99), *boxes[1:]],
        ),
        ('a class that the config leaves out', 'annotation 1 of 0.jpg: helmet'),
    ),
    'evaluator of other data': (
        DET,
        lambda: edit(images=lambda images: images[:1]),
        ('val_evaluator reads data/coco/annotations/instances_train2017.json', 'lacks 2 of'),
        f'val_evaluator.ann_file={COCO_TRAIN}',
    ),
    'no iscrowd': (DET, drop_iscrowd, ('val_evaluator reads', 'iscrowd', 'set it to 0')),
    'annotations numbered from 0': (
        DET,
        lambda: number_annotations(lambda n: n),
        ('val_evaluator reads', 'takes an annotation of id 0 for none', 'from 1'),
    ),
    'large head': (
        DET,
        lambda: None,
        ('model.bbox_head.num_classes=90', 'CocoDataset has 80 classes'),
        'model.bbox_head.num_classes=90',
    ),
    'box outside': (
        DET,
        lambda: edit_first('annotations', bbox=[640, 0, 20, 20]),
        ('boxes outside the image', 'annotation 1 of 0.jpg'),
    ),
    'box of no width': (
        DET,
        lambda: edit_first('annotations', bbox=[10, 10, 0, 20]),
        ('boxes of no area', 'annotation 1 of 0.jpg'),
    ),
    'box of no area': (
        DET,
        lambda: edit_first('annotations', area=0),
        ('boxes of no area', 'annotation 1 of 0.jpg'),
    ),
    'image size': (
        DET,
        lambda: edit_first('images', width=480, height=640),
        ('image of another size', '0.jpg is 480 x 640, not 640 x 480'),
    ),
    'no polygon': (
        'det/mask-rcnn_lolvit_x_coco',
        lambda: edit_first('annotations', segmentation=[[1, 1, 5, 5]]),
        ('boxes without a mask', 'annotation 1 of 0.jpg'),
    ),
    'no segmentation': (
        'det/mask-rcnn_lolvit_x_coco',
        lambda: edit_first('annotations', segmentation=None),
        ('annotation cannot be used', '0.jpg'),
    ),
    'a line as a mask, for the evaluator of testing alone': (
        'det/mask-rcnn_lolvit_x_coco',
        lambda: write_truth(segmentation=[[1, 1, 5, 5]]),
        ('test_evaluator reads truth.json, and judges masks', 'segmentation of its annotation 1'),
        'test_evaluator.ann_file=truth.json',
    ),
    'cut mask': (SEG, lambda: cut(MASKS / 'train/0.png'), ('mask cannot be decoded', '0.png')),
    'cut image of BDD100K': (
        SEG,
        lambda: cut(BDD / 'images/10k/val/0.jpg'),
        ('image cannot be decoded', 'val/0.jpg'),
    ),
    'image without mask': (
        SEG,
        lambda: (MASKS / 'train/0.png').unlink(),
        ('mask cannot be read: No such file', 'train/0.png'),
    ),
    'mask without image': (
        SEG,
        lambda: (BDD / 'images/10k/train/0.jpg').unlink(),
        ('masks without an image', 'train/0.png'),
    ),
    'image suffix': (
        SEG,
        lambda: copy_decoded(
            str(BDD / 'images/10k/train/0.jpg'), str(BDD / 'images/10k/train/9.jpeg')
        ),
        ('images that are not read', '9.jpeg', 'img_suffix'),
    ),
    'mask size': (
        SEG,
        lambda: write_mask(EMPTY_MASK[::2, ::2]),
        ('mask of another size', '0.png is 360 x 640, the image 720 x 1280'),
    ),
    'colour mask': (
        SEG,
        lambda: write_mask(np.zeros((720, 1280, 3), np.uint8)),
        ('mask of another size', '0.png is 720 x 1280 x 3'),
    ),
    'mask id': (
        SEG,
        lambda: write_mask(EMPTY_MASK + np.uint8(19)),
        ('mask ids out of range', '0.png has 19', '19 classes: expected 0 to 18, or 255'),
    ),
    'wide mask id': (
        SEG,
        lambda: write_mask(EMPTY_MASK + np.uint16(256)),
        ('mask ids out of range', '0.png has 256'),
    ),
    'reduced mask id': (
        SEG,
        lambda: write_mask(EMPTY_MASK + np.uint8(20)),
        ('mask ids out of range', '0.png has 19'),
        'train_dataloader.dataset.reduce_zero_label=True',
    ),
    'classes of training alone': (
        SEG,
        lambda: None,
        ('classes are not those of the first data set',),
        "train_dataloader.dataset.metainfo.classes=('road','car')",
    ),
}


@pytest.mark.parametrize('case', FAULTS)
def test_a_fault_is_found_and_named(case, trees, tmp_path, capsys):
    config, spoil, words, *options = FAULTS[case]
    shutil.copytree(trees[config], tmp_path, dirs_exist_ok=True)
    spoil()
    assert check([path_of(config), '--cfg-options', *HERE, *options]) == 1
    out = capsys.readouterr().out
    errors = out[out.index('  error: ') :]
    assert all(word in errors for word in words), out
    assert 'no errors' not in out


@pytest.mark.parametrize('config', TREES)
def test_a_clean_tree_has_no_errors(config, trees, tmp_path, capsys):
    if config in trees:
        shutil.copytree(trees[config], tmp_path, dirs_exist_ok=True)
    else:
        write, root = TREES[config]
        write(tmp_path / root)
    assert check([path_of(config), '--cfg-options', *HERE]) == 0
    captured = capsys.readouterr()
    assert captured.out.endswith('no errors\n')
    assert '100%' in captured.err
    assert not Path('work_dirs').exists()


@pytest.fixture(scope='module')
def embedded(tmp_path_factory):
    """A folder of its own, so that the sets are built once."""
    return tmp_path_factory.mktemp('embedded')


@pytest.mark.parametrize(
    'config',
    [CLS, 'cls/lolvit_x_cue_near', 'det/mask-rcnn_lolvit_x_digits', 'seg/fpn_lolvit_x_digits'],
)
def test_the_embedded_sets_have_no_errors(config, embedded, monkeypatch, capsys):
    monkeypatch.chdir(embedded)
    assert check([path_of(config), '--cfg-options', *HERE]) == 0
    assert 'error: ' not in capsys.readouterr().out


def test_what_training_means_to_leave_out_is_a_note(trees, tmp_path, capsys):
    shutil.copytree(trees[DET], tmp_path, dirs_exist_ok=True)
    edit_first('annotations', iscrowd=1)
    (COCO / 'train2017/extra.jpg').write_bytes(jpeg(64, 64, 77, 'train'))
    assert check([path_of(DET), '--cfg-options', *HERE]) == 0
    notes = re.findall(r'note: (.*)\n +(.*)\n +(.*)\n', capsys.readouterr().out)
    assert ('images without annotation (1)', '2.jpg', 'left out, by filter_cfg') in notes
    assert ('images that the annotation file does not name (1)', 'extra.jpg', 'left out') in notes
    assert 'crowds and ignored boxes (1)' in [title for title, *_ in notes]


@pytest.mark.parametrize(
    'config, copy, source, target',
    [
        (CLS, copy_decoded, 'data/digits/train/3/3.jpg', 'data/digits/val/4/copy.png'),
        (DET, shutil.copy, 'data/coco/train2017/0.jpg', 'data/coco/val2017/1.jpg'),
    ],
)
def test_a_copy_of_a_training_image_is_a_note(
    config, copy, source, target, trees, tmp_path, capsys
):
    shutil.copytree(trees[config], tmp_path, dirs_exist_ok=True)
    copy(source, target)
    assert check([path_of(config), '--cfg-options', *HERE]) == 0
    out = capsys.readouterr().out
    assert f'note: images that are trained on too (1)\n    {target} = {source}\n' in out


# Options for one quick step of each config.
SMALL = {
    CLS: ['train_cfg.max_epochs=1', 'model.backbone.arch=xx', 'model.head.in_channels=352'],
    DET: [
        'train_cfg.max_epochs=1',
        'train_dataloader.dataset.pipeline.2.scale=(160,160)',
        'val_dataloader.dataset.pipeline.1.scale=(160,160)',
        'test_dataloader.dataset.pipeline.1.scale=(160,160)',
        'model.test_cfg.score_thr=0.0',  # a head that has learned nothing still finds something
    ],
    SEG: [
        'train_cfg.max_iters=1',
        'train_cfg.val_interval=1',
        'train_dataloader.dataset.pipeline.3.crop_size=(64,128)',
        'data_preprocessor.size=(64,128)',
    ],
}
BATCH = 'train_dataloader.batch_size=2'
# As FAULTS; what is wrong with the samples is found in the training set, which is read in full.
REFUSED = {
    'no JSON': (DET, lambda: cut(COCO_TRAIN), ('instances_train2017.json is not JSON',)),
    'no annotation file': (
        DET,
        COCO_TRAIN.unlink,
        (f'annotation file {COCO_TRAIN} does not exist',),
    ),
    'no COCO': (
        DET,
        lambda: COCO_TRAIN.write_text('{"shapes": []}'),
        ('is not COCO', 'images, annotations, categories; found: shapes'),
    ),
    'a list': (DET, lambda: COCO_TRAIN.write_text('[]'), ('is not COCO', 'found: list')),
    'a box of two numbers': (
        DET,
        lambda: edit_first('annotations', bbox=[1, 2]),
        ('is not COCO', 'number 0 of its annotations', "'bbox': [1, 2]"),
    ),
    'a box of text': (
        DET,
        lambda: edit_first('annotations', bbox=['a', 1, 2, 3]),
        ('is not COCO', 'number 0 of its annotations'),
    ),
    'an image without height': (
        DET,
        lambda: edit(images=lambda images: [images[0], dict(id=8, file_name='x', width=9)]),
        ('is not COCO', 'number 1 of its images lacks height'),
    ),
    'no file for the evaluator': (
        DET,
        lambda: None,
        ('val_evaluator: annotation file gone.json does not exist', 'val_evaluator.ann_file='),
        'val_evaluator.ann_file=gone.json',
    ),
    'category name': (
        DET,
        lambda: rename_category('human'),
        ('missing person, added human', "file: ('human',", "config: ('person',", 'metainfo=dict('),
    ),
    'category order': (
        DET,
        lambda: edit(categories=lambda names: names[::-1]),
        ("file: ('toothbrush',", "config: ('person',", 'metainfo=dict('),
    ),
    'one class without a comma': (
        DET,
        lambda: None,
        ("classes are the text 'person'", "('person',)"),
        'train_dataloader.dataset.metainfo.classes=person',
    ),
    'evaluator of other data': (
        DET,
        lambda: edit(images=lambda images: images[:1]),
        ('val_evaluator reads data/coco/annotations/instances_train2017.json', 'lacks 2 of'),
        f'val_evaluator.ann_file={COCO_TRAIN}',
    ),
    'no iscrowd': (DET, drop_iscrowd, ('val_evaluator reads', 'iscrowd', 'set it to 0')),
    'a broken mask for the evaluator': (
        DET,
        lambda: write_truth(segmentation=dict(size=[480, 640], counts=[5])),
        ('annotation file truth.json: the mask of annotation 1', 'no RLE of 480 x 640 pixels'),
        'val_evaluator.ann_file=truth.json',
        'val_evaluator.metric=segm',
    ),
    'annotations numbered in words': (
        DET,
        lambda: number_annotations(str),
        ('val_evaluator reads', "takes an annotation of id '0' for none"),
    ),
    'small head': (
        DET,
        lambda: None,
        ('model.bbox_head.num_classes=3', 'CocoDataset has 80 classes'),
        'model.bbox_head.num_classes=3',
    ),
    'large head': (
        DET,
        lambda: None,
        ('model.bbox_head.num_classes=90', 'CocoDataset has 80 classes'),
        'model.bbox_head.num_classes=90',
    ),
    'cut jpeg': (DET, lambda: cut(COCO / 'train2017/1.jpg'), ('decoded', 'train2017/1.jpg')),
    'jpeg cut, read by a worker': (
        CLS,
        lambda: cut('data/digits/train/3/3.jpg'),
        ('image cannot be decoded: data/digits/train/3/3.jpg',),
        'train_dataloader.num_workers=1',
    ),
    'pipe in a list': (
        CLS,
        lambda: [
            os.mkfifo('data/digits/train/4/pipe.jpg'),
            Path('data/digits/train.txt').write_text('4/pipe.jpg 4\n'),
        ],
        ('image cannot be read: it is no file', 'pipe.jpg'),
        'train_dataloader.dataset.ann_file=train.txt',
    ),
    'list without labels': (
        CLS,
        lambda: Path('data/digits/train.txt').write_text('3/3.jpg\n'),
        ('CustomDataset cannot list the samples of data/digits/train.txt',),
        'train_dataloader.dataset.ann_file=train.txt',
    ),
    'folder named like a list': (
        CLS,
        lambda: Path('data/digits/train.txt').mkdir(),
        ('CustomDataset cannot list the samples of data/digits/train.txt', 'directory'),
        'train_dataloader.dataset.ann_file=train.txt',
    ),
    'class folder of training alone': (
        CLS,
        lambda: Path('data/digits/val/3').rename('data/digits/val/three'),
        ('class folders differ', 'missing 3, added three'),
    ),
    'other suffix': (
        SEG,
        lambda: None,
        ('BDD100KDataset finds no sample *.bmp in data/bdd100k/images/10k/train',),
        'train_dataloader.dataset.img_suffix=.bmp',
    ),
    'mask missing': (SEG, (MASKS / 'train/0.png').unlink, ('mask cannot be read', 'train/0.png')),
    'mask cut': (SEG, lambda: cut(MASKS / 'train/0.png'), ('mask cannot be decoded', '0.png')),
    'mask size': (
        SEG,
        lambda: write_mask(EMPTY_MASK[::2, ::2]),
        ('mask of another size', '0.png is 360 x 640, the image 720 x 1280'),
    ),
    'mask id': (
        SEG,
        lambda: write_mask(EMPTY_MASK + np.uint8(77)),
        ('mask ids out of range', 'train/0.png has 77', '19 classes'),
    ),
}


def refuses(main, args: list[str], words: tuple[str, ...], capfd) -> None:
    capfd.readouterr()
    assert main(args) == 2
    message = re.search(r'^error: .*', capfd.readouterr().err, re.DOTALL | re.MULTILINE).group()
    assert all(word in message for word in words), message
    assert 'Traceback' not in message


@pytest.mark.parametrize('case', REFUSED)
def test_training_refuses_a_fault_with_one_message(case, trees, tmp_path, capfd):
    config, spoil, words, *options = REFUSED[case]
    shutil.copytree(trees[config], tmp_path, dirs_exist_ok=True)
    spoil()
    options = [*HERE, *SMALL[config], BATCH, *options]
    refuses(run_train, [path_of(config), '--cfg-options', *options], words, capfd)


def test_testing_refuses_a_sample_with_one_message(trees, tmp_path, capfd):
    shutil.copytree(trees[CLS], tmp_path, dirs_exist_ok=True)
    options = ['--cfg-options', *HERE, *SMALL[CLS], BATCH]
    assert run_train([path_of(CLS), '--work-dir', 'run', *options]) == 0
    cut('data/digits/val/3/13.jpg')
    args = [path_of(CLS), 'run/epoch_1.pth', '--work-dir', 'run', *options]
    refuses(run_test, args, ('image cannot be decoded: data/digits/val/3/13.jpg',), capfd)


def test_a_sample_is_refused_inside_test_time_augmentation_too(trees, tmp_path):
    shutil.copytree(trees[SEG], tmp_path, dirs_exist_ok=True)
    write_mask(EMPTY_MASK + np.uint8(77), 'val/0.png')
    cfg = Config.fromfile(path_of(SEG))
    use_tta(cfg)
    init_default_scope('mmseg')
    dataset = DATASETS.build(cfg.test_dataloader.dataset)
    guard(dataset, cfg)
    with pytest.raises(BadSample, match=r'mask ids out of range: .*val/0.png has 77'):
        dataset[0]
    assert len(dataset[1]['inputs']) == 12  # of six sizes, each flipped too


def test_class_folders_may_be_links(trees, tmp_path, capsys):
    shutil.copytree(trees[CLS], tmp_path, dirs_exist_ok=True)
    for split in ('train', 'val'):
        Path(f'data/digits/{split}').rename(f'{split}_elsewhere')
        Path(f'data/digits/{split}').mkdir()
        for folder in Path(f'{split}_elsewhere').resolve().iterdir():
            Path(f'data/digits/{split}', folder.name).symlink_to(folder)
    assert check([path_of(CLS), '--cfg-options', *HERE]) == 0
    assert 'error: ' not in capsys.readouterr().out


def test_a_category_that_the_config_leaves_out_is_told(trees, tmp_path, capfd):
    shutil.copytree(trees[DET], tmp_path, dirs_exist_ok=True)
    edit(categories=lambda names: [*names, dict(id=99, name='helmet')])
    cut(COCO / 'train2017/0.jpg')
    options = ['--cfg-options', *HERE, *SMALL[DET], BATCH]
    assert run_train([path_of(DET), *options]) == 2  # at the image
    assert (
        'warning: train_dataloader.dataset: the config leaves out helmet' in capfd.readouterr().err
    )


def test_an_image_that_the_config_leaves_out_is_told(trees, tmp_path, capfd):
    shutil.copytree(trees[CLS], tmp_path, dirs_exist_ok=True)
    Path('data/digits/train/3/3.jpg').write_bytes(b'')
    ignore = 'train_dataloader.dataset.pipeline.0.ignore_empty=True'
    options = ['--cfg-options', *HERE, *SMALL[CLS], BATCH, ignore]
    assert run_train([path_of(CLS), *options]) == 0
    assert 'warning: cannot read data/digits/train/3/3.jpg: left out' in capfd.readouterr().err


def write_mine_coco(root: Path) -> None:
    names = [dict(id=7, name='cat'), dict(id=3, name='dog')]
    for split in ('train', 'val'):
        (root / split).mkdir(parents=True)
        (root / split / 'a.jpg').write_bytes(jpeg(96, 128, 0, split))
        boxes = [
            dict(
                id=i + 1,
                image_id=0,
                category_id=name['id'],
                bbox=[8, 8, 60, 60],
                area=3600,
                iscrowd=0,
            )
            for i, name in enumerate(names)
        ]
        image = dict(id=0, file_name='a.jpg', width=128, height=96)
        coco = dict(images=[image], annotations=boxes, categories=names)
        (root / f'{split}.json').write_text(json.dumps(coco))


def write_mine_masks(root: Path) -> None:
    mask = np.repeat(np.array([[0, 1, 255]], np.uint8), 96, 0).repeat(43, 1)
    for split in ('train', 'val'):
        for folder in ('images', 'masks'):
            (root / folder / split).mkdir(parents=True)
        (root / 'images' / split / 'a.jpg').write_bytes(jpeg(*mask.shape, 0, split))
        cv2.imwrite(str(root / 'masks' / split / 'a.png'), mask)


MINE = {
    'configs/det/retinanet_lolvit_x_mine.py': (write_mine_coco, DET, 'coco/bbox_mAP'),
    'configs/seg/fpn_lolvit_x_mine.py': (write_mine_masks, SEG, 'mIoU'),
}


@pytest.mark.parametrize('name', MINE)
def test_the_documented_config_for_ones_own_data_trains_and_tests(name, tmp_path, capfd):
    write, base, metric = MINE[name]
    docs = (ROOT / 'docs/datasets.md').read_text()
    text = re.search(rf'`{name}`:\n\n```python\n(.*?)```', docs, re.DOTALL).group(1)
    assert len(text.splitlines()) < 15
    shutil.copytree(ROOT / 'configs', 'configs')
    Path(name).write_text(text)
    write(Path('data/mine'))
    options = ['--cfg-options', *HERE, *SMALL[base]]
    assert check([name, '--cfg-options', *HERE]) == 0
    assert run_train([name, '--work-dir', 'run', *options]) == 0
    log = next(Path('run').glob('*/*.log')).read_text()
    mend = f'python tools/train.py {name} --backbone-checkpoint CKPT'
    assert log.count('starts from random weights') == log.count(mend) == 1
    (checkpoint,) = Path('run').glob('[ei]*_1.pth')
    args = [name, str(checkpoint), '--work-dir', 'run', '--out', 'out.json', *options]
    assert run_test(args) == 0
    assert metric in json.loads(Path('out.json').read_text())['metrics']
