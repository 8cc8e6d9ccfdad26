"""The doctor on this environment, and each trap on made-up lists of what is installed."""

import os
import subprocess
import sys

import pytest

from mmlolvit import doctor
from mmlolvit.doctor import Part

MAINTAINED = {
    'torch': '2.11.0',
    'torchvision': '0.26.0',
    'numpy': '2.4.6',
    'opencv-python-headless': '5.0.0.93',
    'onedl-mmengine': '0.10.12',
    'onedl-mmcv': '2.3.6',
    'onedl-mmpretrain': '1.3.6',
    'onedl-mmdetection': '3.5.1',
    'onedl-mmsegmentation': '1.4.2',
}
UPSTREAM = {
    'torch': '2.4.1',
    'torchvision': '0.19.1',
    'numpy': '1.26.4',
    'opencv-python': '4.11.0.86',
    'mmengine': '0.10.7',
    'mmcv-lite': '2.1.0',
    'mmpretrain': '1.2.0',
    'mmdet': '3.3.0',
    'mmsegmentation': '1.2.2',
}
PARTS = (*doctor.REQUIRED, *doctor.TASKS)
WORKING = {name: Part('1.0') for name in (*PARTS, 'mmcv._ext', 'sklearn')}


def diagnose(dists=MAINTAINED, **parts):
    return doctor.diagnose(dists, WORKING | parts)


def test_report_on_this_environment(capsys):
    assert doctor.main([]) == 0
    report = capsys.readouterr().out
    for name in ('python', 'torch', 'mmcv ops', 'stack', 'GPU', *doctor.REQUIRED, *doctor.TASKS):
        assert f'\n{name} ' in report
    assert 'Ready for classification' in report


def test_exit_code_1_where_training_cannot_work(tmp_path):
    (tmp_path / 'cv2.py').write_text("raise ImportError('libGL.so.1: cannot open')\n")
    code = [sys.executable, '-m', 'mmlolvit.doctor']
    env = dict(os.environ, PYTHONPATH=str(tmp_path))
    done = subprocess.run(code, capture_output=True, text=True, env=env)
    assert done.returncode == 1, done
    assert done.stdout.endswith('Training cannot work here.\n')
    assert 'error: cv2 cannot be imported' in done.stdout


def test_probe_survives_what_is_missing():
    assert doctor.probe('no_such_package_at_all') == Part()
    assert str(doctor.probe('no_such_package_at_all')) == 'not installed'
    assert doctor.probe('numpy').version


def test_probe_reports_a_package_that_does_not_load(tmp_path, monkeypatch):
    (tmp_path / 'loads_badly.py').write_text("raise OSError('libGL.so.1: cannot open')\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert doctor.probe('loads_badly').error == 'OSError: libGL.so.1: cannot open'


@pytest.mark.parametrize(
    ('dists', 'stack'),
    [
        (MAINTAINED, 'maintained'),
        (UPSTREAM, 'upstream'),
        (MAINTAINED | UPSTREAM, 'mixed'),
        ({'torch': '2.11.0'}, 'none'),
    ],
)
def test_stack_is_told_by_the_distributions(dists, stack):
    assert doctor.find_stack(dists) == stack


@pytest.mark.parametrize('dists', [MAINTAINED, UPSTREAM], ids=['maintained', 'upstream'])
def test_a_sound_stack_has_no_findings(dists):
    assert diagnose(dists) == []


@pytest.mark.parametrize(
    'pair',
    [
        ('mmengine', 'onedl-mmengine'),
        ('mmcv', 'onedl-mmcv'),
        ('mmcv', 'mmcv-lite'),
        ('mmpretrain', 'onedl-mmpretrain'),
        ('mmdet', 'onedl-mmdetection'),
        ('mmsegmentation', 'onedl-mmsegmentation'),
    ],
)
def test_distributions_over_each_other_are_fatal(pair):
    (finding,) = doctor.check_stack(dict.fromkeys(pair, '1.0'))
    assert finding.fatal
    assert all(name in finding.problem and name in finding.remedy for name in pair)


def test_libraries_of_two_stacks_are_fatal():
    dists = MAINTAINED | {'mmdet': '3.3.0'}
    del dists['onedl-mmdetection']
    (finding,) = diagnose(dists)
    assert finding.fatal
    assert finding.remedy.startswith('pip uninstall -y mmdet &&')


def test_two_opencvs_are_a_warning():
    (finding,) = diagnose(MAINTAINED | {'opencv-python': '4.12.0.88'})
    assert not finding.fatal
    assert 'opencv-python and opencv-python-headless' in finding.problem


@pytest.mark.parametrize(
    ('newer', 'remedy'),
    [({'numpy': '2.1.0'}, 'numpy<2'), ({'torch': '2.11.0+cpu'}, 'torch==2.4.1')],
)
def test_what_is_too_new_is_a_warning_on_the_upstream_stack_only(newer, remedy):
    (finding,) = diagnose(UPSTREAM | newer)
    assert not finding.fatal
    assert remedy in finding.remedy


def test_transformers_from_5_on_are_fatal():
    assert diagnose(MAINTAINED | {'transformers': '4.57.1'}) == []
    (finding,) = diagnose(MAINTAINED | {'transformers': '5.17.0'})
    assert finding.fatal
    assert 'transformers<5' in finding.remedy


def test_tools_refuse_what_mmpretrain_cannot_import(tmp_path):
    """As 5 is: there, and without what mmpretrain's language models import."""
    (tmp_path / 'transformers.py').touch()
    (tmp_path / 'transformers-5.17.0.dist-info').mkdir()
    metadata = tmp_path / 'transformers-5.17.0.dist-info/METADATA'
    metadata.write_text('Metadata-Version: 2.1\nName: transformers\nVersion: 5.17.0\n')
    env = dict(os.environ, PYTHONPATH=str(tmp_path))
    command = [sys.executable, '-m', 'mmlolvit', 'get_flops', 'fpn_lolvit_x_digits']
    done = subprocess.run(command, capture_output=True, text=True, env=env, cwd=tmp_path)
    assert done.returncode == 2, done
    assert done.stderr.startswith('error: config fpn_lolvit_x_digits: transformers 5.17.0 is')
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ('torch', 'torchvision'),
    [
        (Part('2.14.0+cpu'), Part('0.26.0+cu130')),
        (Part('2.11.0'), Part(error='RuntimeError: operator torchvision::nms does not exist')),
    ],
    ids=['tags differ', 'operators missing'],
)
def test_torch_and_torchvision_of_different_builds_are_fatal(torch, torchvision):
    (finding,) = diagnose(torch=torch, torchvision=torchvision)
    assert finding.fatal
    assert 'different builds' in finding.problem
    assert 'torch.txt' in finding.remedy


def test_torch_and_torchvision_of_one_build_are_fine():
    assert diagnose(torch=Part('2.11.0+cpu'), torchvision=Part('0.26.0+cpu')) == []


@pytest.mark.parametrize('name', doctor.REQUIRED)
@pytest.mark.parametrize('part', [Part(), Part(error='OSError: x')], ids=['missing', 'broken'])
def test_a_part_that_everything_needs_is_fatal(name, part):
    (finding,) = diagnose(**{name: part})
    assert finding.fatal
    assert finding.problem.startswith(name)
    assert 'pip install' in finding.remedy


@pytest.mark.parametrize('name', [*PARTS, 'mmcv._ext'])
def test_remedies_do_not_install_the_maintained_stack_over_upstreams(name):
    part = Part(error='ImportError: undefined symbol: x') if name == 'mmcv._ext' else Part()
    (finding,) = diagnose(UPSTREAM, **{name: part})
    assert 'requirements/upstream' in finding.remedy
    assert 'openmmlab.txt' not in finding.remedy


@pytest.mark.parametrize('dists', [MAINTAINED, UPSTREAM], ids=['maintained', 'upstream'])
def test_a_module_that_a_library_lacks_is_the_one_to_install(dists):
    (finding,) = diagnose(dists, mmseg=Part(error="ModuleNotFoundError: No module named 'ftfy'"))
    assert finding.remedy == 'pip install ftfy'


def test_without_scikit_learn_there_are_no_embedded_sets():
    (finding,) = diagnose(sklearn=Part())
    assert not finding.fatal
    assert finding.remedy == 'pip install scikit-learn'


def test_missing_libgl_asks_for_the_headless_opencv():
    (finding,) = diagnose(cv2=Part(error='ImportError: libGL.so.1: cannot open shared object file'))
    assert 'opencv-python-headless' in finding.remedy


@pytest.mark.parametrize('name', doctor.TASKS)
def test_one_missing_task_library_is_a_warning(name):
    (finding,) = diagnose(**{name: Part()})
    assert not finding.fatal
    assert doctor.TASKS[name] in finding.problem


def test_no_task_library_at_all_is_fatal():
    findings = diagnose(**dict.fromkeys(doctor.TASKS, Part()))
    assert len(findings) == 3
    assert all(finding.fatal for finding in findings)


def test_operators_may_be_supplied_but_not_broken():
    assert doctor.describe_ops(Part('unknown'), supplied=False) == 'compiled'
    assert doctor.describe_ops(Part('unknown'), supplied=True).startswith('not compiled')
    (finding,) = diagnose(**{'mmcv._ext': Part(error='ImportError: undefined symbol: x')})
    assert finding.fatal


def test_fatal_findings_come_first():
    findings = diagnose(MAINTAINED | {'opencv-python': '4.12.0.88', 'mmcv': '2.1.0'})
    assert [finding.fatal for finding in findings] == [True, False]
