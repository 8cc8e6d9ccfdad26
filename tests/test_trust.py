"""Checkpoints are data: none runs code unless it is told to be trusted."""

import os
import pickle
import re
from pathlib import Path

import pytest
import torch
from mmengine.config import Config

import mmlolvit
from mmlolvit.checkpoints import read_checkpoint, read_training_state, require_equal
from mmlolvit.cli.publish_model import main as publish
from mmlolvit.cli.test import main as run_test
from mmlolvit.cli.train import main as run_train
from mmlolvit.errors import UserError
from mmlolvit.zoo import read_config

from .helpers import inside, served

NAME = 'lolvit_xx_digits'


class Creates:
    """Unpickled, a file appears."""

    def __init__(self, path: str):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (self.path,)


@pytest.fixture
def folder(tmp_path):
    with inside(tmp_path):
        yield tmp_path


def save(path: str, legacy: bool = False, **content) -> None:
    content.setdefault('state_dict', dict(a=torch.ones(1)))
    torch.save(content, path, _use_new_zipfile_serialization=not legacy)


@pytest.mark.parametrize('legacy', [False, True], ids=['zip', 'legacy'])
@pytest.mark.parametrize('reader', ['read', 'load', 'publish', 'test', 'train', 'resume', 'init'])
def test_code_in_a_checkpoint_is_named_and_not_run(folder, reader, legacy, capsys):
    save('evil.pth', legacy, meta=Creates('run'))
    named = r'evil\.pth would run code as it is read: it names (posix|nt|os)\.mkdir'
    backbone = '--cfg-options model.backbone.init_cfg.type=Pretrained'
    argv = dict(
        publish=(publish, ['evil.pth', 'out.pth']),
        test=(run_test, [NAME, 'evil.pth']),
        train=(run_train, [NAME, '--cfg-options', 'load_from=evil.pth']),
        resume=(run_train, [NAME, '--resume', 'evil.pth']),
        init=(
            run_train,
            [NAME, *backbone.split(), 'model.backbone.init_cfg.checkpoint=evil.pth'],
        ),
    )
    if reader in ('read', 'load'):
        with pytest.raises(UserError, match=named):
            read_checkpoint('evil.pth') if reader == 'read' else mmlolvit.load(NAME, 'evil.pth')
    else:
        main, arguments = argv[reader]
        assert main(arguments) == 2
        said = capsys.readouterr().err
        assert 'mkdir' in said and '--trust-checkpoint' in said
        assert said.splitlines()[-1].startswith('error: ')
    assert not Path('run').exists()


def test_trust_is_asked_for_printed_and_over_with_the_tool(folder, capsys):
    save('evil.pth', meta=dict(a=Creates('run')))
    assert publish(['evil.pth', 'out.pth', '--trust-checkpoint']) == 0
    assert Path('run').is_dir()
    assert 'warning: --trust-checkpoint: checkpoints may run any code' in capsys.readouterr().err
    os.rmdir('run')
    assert publish(['evil.pth', 'out.pth']) == 2
    assert not Path('run').exists()


def test_a_pickle_that_is_no_checkpoint_is_not_run(folder):
    Path('evil.pth').write_bytes(pickle.dumps(Creates('run')))
    with pytest.raises(UserError, match='damaged or no checkpoint'):
        read_checkpoint('evil.pth')
    assert not Path('run').exists()


def test_getattr_reaches_nothing_but_methods_of_logs_and_schedules(folder):
    class Reaches:
        def __reduce__(self):
            return getattr, (torch.nn.Module, 'train')

    save('evil.pth', meta=Reaches())
    with pytest.raises(UserError, match='would run code'):
        read_checkpoint('evil.pth')


@pytest.mark.slow
def test_the_config_text_of_a_checkpoint_is_not_run(folder):
    """MMEngine keeps its configs as Python, and has run an entry of old checkpoints."""
    short = ['train_cfg.max_epochs=1', 'train_dataloader.dataset.indices=32']
    options = ['--cfg-options', *short, 'val_dataloader.dataset.indices=16']
    assert run_train([NAME, '--work-dir', 'w', *options]) == 0
    checkpoint = read_checkpoint('w/epoch_1.pth')
    text = "import os\nos.mkdir('run')\nmodel = dict(backbone=dict(norm_eval=True))"
    checkpoint['meta'] |= dict(config=text, cfg=text)
    torch.save(checkpoint, 'evil.pth')
    options[1] = 'train_cfg.max_epochs=2'
    assert run_train([NAME, '--work-dir', 'w', '--resume', 'evil.pth', *options]) == 0
    assert run_test([NAME, 'evil.pth', '--work-dir', 'w', *options]) == 0
    mmlolvit.load(NAME, 'evil.pth')
    assert not Path('run').exists()


@pytest.mark.parametrize('ending', ['json', 'yaml'])
def test_a_dumped_config_is_a_form_without_code(folder, ending):
    """What the docs say to take from others; a .py config is a program."""
    read_config(NAME).dump(f'shared.{ending}')
    assert read_config(f'shared.{ending}').model == read_config(NAME).model


@pytest.mark.parametrize('inherited', [False, True], ids=['itself', 'base'])
def test_code_in_a_yaml_config_is_refused(folder, inherited):
    """MMEngine's loader runs it."""
    Path('evil.yaml').write_text('note: !!python/object/apply:os.mkdir [run]')
    Path('heir.yaml').write_text('_base_: evil.yaml')
    with pytest.raises(UserError, match=r'cannot be read: ConstructorError: .*os\.mkdir'):
        read_config('heir.yaml' if inherited else 'evil.yaml')
    assert not Path('run').exists()
    with pytest.raises(FileExistsError):  # it does so twice
        Config.fromfile('evil.yaml')


HUB = dict(log_scalars={}, runtime_info={}, resumed_keys={})
STATE = dict(meta=dict(epoch=1, iter=2), message_hub=HUB, optimizer={})


@pytest.mark.parametrize(
    ('content', 'words'),
    [
        (dict(meta='text'), 'expected meta as a dict'),
        (dict(meta=dict(dataset_meta=dict(classes=7))), 'the classes in its dataset_meta as names'),
        (dict(meta=dict(dataset_meta=dict(classes=[[]]))), 'the classes in its dataset_meta as'),
        (dict(STATE, meta=dict(epoch='1', iter=2)), "meta.epoch='1', expected a whole number"),
        (dict(STATE, meta=dict(iter=2)), 'meta.epoch=None'),
        (dict(STATE, meta=dict(epoch=1, iter=-2)), 'meta.iter=-2'),
        (dict(STATE, meta=dict(epoch=1, iter=2, seed=2**80)), 'meta.seed='),
        (dict(STATE, message_hub='text'), 'message_hub, expected a dict'),
        (dict(STATE, message_hub={}), 'message_hub, expected a dict with log_scalars'),
        (dict(STATE, optimizer=[]), 'optimizer, expected a dict'),
    ],
)
def test_a_training_state_of_another_form_is_refused(folder, content, words):
    save('a.pth', **content)
    with pytest.raises(UserError, match=re.escape(words)):
        read_training_state('a.pth')


@pytest.mark.parametrize(
    'meta',
    [
        None,
        dict(dataset_meta=None),
        dict(dataset_meta=dict(classes=[0, 1])),
        dict(dataset_meta=[dict(classes=('a',)), dict(classes=('b',))]),
    ],
)
def test_what_libraries_write_of_their_data_is_read(folder, meta):
    """Of several data sets that are unlike, and of classes that are numbers."""
    save('a.pth', meta=meta)
    assert read_checkpoint('a.pth')['meta'] == meta


@pytest.mark.parametrize(
    ('value', 'words'),
    [
        (torch.eye(2).to_sparse(), r'a is sparse (2, 2), expected (2, 2)'),
        (torch.eye(2, dtype=torch.complex64), 'a is complex (2, 2)'),
        (torch.empty(2, 2, device='meta'), 'a is empty (2, 2)'),
        (5, 'a is int'),
        (torch.full((2, 2), torch.nan), 'NaN in 1 tensors, as in a'),
    ],
)
def test_weights_that_a_model_cannot_take_are_refused(value, words):
    """PyTorch would keep the random ones where it cannot copy a tensor."""
    with pytest.raises(UserError, match=re.escape(words)):
        require_equal(dict(a=torch.eye(2)), dict(a=value), 'a.pth')
    require_equal(dict(a=torch.eye(2)), dict(a=torch.eye(2).half()), 'a.pth')


def test_what_arrives_from_elsewhere_is_told_apart_and_compared(folder, monkeypatch):
    """Files of one name from two places, and one that the way has damaged."""
    for name in 'ab':
        Path(name).mkdir()
        save(f'{name}/same.pth', state_dict=dict(a=torch.full((1000,), float(ord(name)))))
    content = bytearray(Path('b/same.pth').read_bytes())
    content[content.index(torch.full((9,), 98.0).numpy().tobytes())] ^= 1
    Path('b/damaged.pth').write_bytes(content)
    with served('.', monkeypatch, folder / 'home') as url:
        for name in 'ab':
            found = read_checkpoint(f'{url}/{name}/same.pth')['state_dict']['a']
            assert (found == ord(name)).all()
        with pytest.raises(UserError, match='arrived damaged'):
            read_checkpoint(f'{url}/b/damaged.pth')
