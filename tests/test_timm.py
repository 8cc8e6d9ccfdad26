"""timm.create_model('lolvit_x'), in programs of their own: it is about what was imported before."""

import subprocess
import sys

import pytest

pytest.importorskip('timm')


def run(code: str, cwd) -> str:
    done = subprocess.run([sys.executable, '-c', code], cwd=cwd, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize('order', ['mmlolvit, timm', 'timm, mmlolvit'])
def test_is_registered_after_both_imports(tmp_path, order):
    code = f"""
import {order}
import torch
from timm.models import list_models
assert list_models('lolvit*') == ['lolvit_s', 'lolvit_x', 'lolvit_xx']
x = torch.randn(2, 3, 96, 64)
model = timm.create_model('lolvit_x', num_classes=7).eval()
assert model(x).shape == (2, 7)
assert model.forward_head(model.forward_features(x), pre_logits=True).shape == (2, 432)
model.reset_classifier(0, '')
assert model(x).shape == (2, 432, 3, 2)
net = timm.create_model('lolvit_xx', features_only=True, out_indices=(1, 2), in_chans=1).eval()
maps = net(torch.randn(1, 1, 64, 64))
assert [tuple(m.shape[1:]) for m in maps] == [(64, 8, 8), (192, 4, 4)]
assert net.feature_info.channels() == [64, 192] and net.feature_info.reduction() == [8, 16]
assert not [name for name, _ in net.named_parameters() if 'stages.3' in name]
try:
    timm.create_model('lolvit_x', pretrained=True)
except RuntimeError as error:
    print(error)
"""
    assert 'No pretrained weights' in run(code, tmp_path)


def test_timm_alone_stays_as_it_is(tmp_path):
    code = """
import sys, timm
assert not timm.is_model('lolvit_x') and 'mmlolvit.models' not in sys.modules
import mmlolvit
assert timm.is_model('lolvit_x')
"""
    run(code, tmp_path)


def test_mmlolvit_alone_imports_no_timm(tmp_path):
    run(
        "import sys, mmlolvit; assert not {'timm', 'torch', 'mmengine'} & set(sys.modules)",
        tmp_path,
    )
