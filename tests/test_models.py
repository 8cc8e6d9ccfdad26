import copy
import itertools
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from mmlolvit.analysis import attention_shares, complexity
from mmlolvit.models import LOLViT, WeightedCrossEntropy
from mmlolvit.models.lolvit import ARCHS, MECHANISMS

TINY = dict(stem=8, channels=(16, 24, 32, 48), depths=(1, 1, 1, 1))
TABLE = (Path(__file__).parents[1] / 'docs/architecture.md').read_text()
BUDGETS = dict(  # parameters with a 1000-class head, MACs, activations, at 256 x 256
    xx=dict(params=(0, 1.3e6)),
    x=dict(params=(1.8e6, 2.4e6), macs=(0.2e9, 0.32e9), activations=(0, 2.5e6)),
    s=dict(params=(0, 5.6e6), macs=(0, 0.8e9)),
)


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def settled(model: LOLViT) -> LOLViT:
    """The model in eval mode, with running statistics and norms that are not the initial ones."""
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(std=0.1)
            module.running_var.uniform_(0.5, 2)
            if module.affine:
                torch.nn.init.uniform_(module.weight, -1, 1)
                torch.nn.init.normal_(module.bias, std=0.1)
    return model.eval()


@pytest.mark.parametrize('arch', ARCHS)
@pytest.mark.parametrize('size', [(224, 224), (256, 256), (33, 47), (32, 32), (1, 1)])
def test_a_pyramid_at_the_strides_it_announces(arch, size):
    model = LOLViT(arch, out_indices=(0, 1, 2, 3)).eval()
    with torch.no_grad():
        outs = model(torch.randn(1, 3, *size))
    for out, channels, stride in zip(outs, model.out_channels, model.out_strides, strict=True):
        assert out.shape == (1, channels, -(-size[0] // stride), -(-size[1] // stride))
        assert out.isfinite().all()
    assert model.out_strides == (4, 8, 16, 32)


@pytest.mark.parametrize('mechanism', MECHANISMS)
def test_a_mechanism_that_is_left_out_is_gone(mechanism):
    whole, part = LOLViT(TINY), LOLViT(TINY, without=[mechanism])
    kinds, left = ({type(m).__name__ for m in model.modules()} for model in (whole, part))
    names = {name for name, _ in part.named_parameters()}
    if mechanism == 'ghost':
        assert {'GhostModule', 'GhostDownsample'} <= kinds - left
    elif mechanism == 'local':
        assert {name for name, _ in whole.named_parameters()} > names
        assert not any('.local.' in name for name in names)
    else:
        assert attention_shares(whole, torch.randn(2, 3, 64, 64))
        assert not attention_shares(part, torch.randn(2, 3, 64, 64))
        assert len(list(part.parameters())) == len(list(whole.parameters()))
    with pytest.raises(ValueError, match='without names some of'):
        LOLViT(TINY, without=['attention'])


@pytest.mark.parametrize('arch', [*ARCHS, TINY], ids=[*ARCHS, 'dict'])
@pytest.mark.parametrize('out_indices', [(0,), (1, 2), (-1,), (0, 1, 2, 3), (-2, 0)], ids=str)
def test_every_parameter_gets_a_gradient(arch, out_indices):
    model = LOLViT(arch, out_indices)
    assert len(model.stages) == max(i % 4 for i in out_indices) + 1
    model.init_weights()
    outs = model(torch.randn(2, 3, 96, 64))
    sum((out * torch.randn_like(out)).sum() for out in outs).backward()
    without = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert not without


@pytest.mark.parametrize('arch', ARCHS)
def test_state_dict_round_trip(arch):
    model, other = settled(LOLViT(arch)), LOLViT(arch).eval()
    other.load_state_dict(copy.deepcopy(model.state_dict()))
    x = torch.randn(1, 3, 64, 64)
    torch.testing.assert_close(other(x), model(x), rtol=0, atol=0)


@pytest.mark.parametrize('arch', ARCHS)
def test_layout_precision_and_compilation_change_only_the_rounding(arch):
    model, x = settled(LOLViT(arch)), torch.randn(2, 3, 96, 96)
    with torch.no_grad():
        want = model(x)[0]
        compiled = torch.compile(model, backend='aot_eager')(x)[0]
        with torch.autocast('cpu', dtype=torch.bfloat16):
            half = model(x)[0]
        last = model.to(memory_format=torch.channels_last)
        moved = last(x.to(memory_format=torch.channels_last))[0]
    torch.testing.assert_close(compiled, want, rtol=1e-3, atol=1e-4 * want.abs().max().item())
    torch.testing.assert_close(moved, want, rtol=1e-3, atol=1e-4 * want.abs().max().item())
    assert (half - want).abs().mean() < 0.1 * want.abs().mean()


@pytest.mark.parametrize('arch', ARCHS)
def test_stays_within_its_budget_and_is_as_the_docs_say(arch):
    model = LOLViT(arch)
    cost = complexity(model, torch.randn(1, 3, 256, 256))['total']
    head = model.out_channels[-1] * 1000
    measured = dict(
        params=cost.parameters + head + 1000,
        macs=cost.macs + head,
        activations=cost.activations + 1000,
    )
    for key, (low, high) in BUDGETS[arch].items():
        assert low <= measured[key] <= high, (key, measured[key])
    row = re.search(rf'^\| {arch.upper()} \| 16 .* M \|$', TABLE, re.MULTILINE).group()
    assert row.endswith(
        '| {params:.2f} M | {macs:.3f} G | {activations:.2f} M |'.format(
            params=measured['params'] / 1e6,
            macs=measured['macs'] / 1e9,
            activations=measured['activations'] / 1e6,
        )
    )


def test_frozen_stages_and_norm_eval_survive_train():
    model = LOLViT(TINY, frozen_stages=1).train()
    before = copy.deepcopy(model.state_dict())
    model(torch.randn(2, 3, 64, 64))[0].sum().backward()
    trained = {
        n.split('.')[0] + n.split('.')[1] for n, p in model.named_parameters() if p.grad is not None
    }
    assert trained == {'stages1', 'stages2', 'stages3'}
    after = model.state_dict()
    moved = {k for k, v in after.items() if not torch.equal(v, before[k])}
    assert moved and not any(k.startswith(('stem', 'stages.0')) for k in moved)

    model = LOLViT(TINY, norm_eval=True).train()
    before = copy.deepcopy(model.state_dict())
    model(torch.randn(2, 3, 64, 64))
    torch.testing.assert_close(model.state_dict(), before, rtol=0, atol=0)


def test_activation_checkpointing_gives_the_same_gradients():
    plain, saving = LOLViT(TINY), LOLViT(TINY, with_cp=True)
    saving.load_state_dict(plain.state_dict())
    x = torch.randn(2, 3, 64, 64)
    for model in (plain, saving):
        model(x)[0].square().sum().backward()
    for a, b in zip(plain.parameters(), saving.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad)
    for (name, a), b in zip(plain.named_buffers(), saving.buffers(), strict=True):
        if 'tracked' not in name:
            torch.testing.assert_close(a, b)


def test_drop_path_drops_in_training_only():
    model, x = LOLViT(TINY, drop_path_rate=0.9, norm_eval=True).train(), torch.randn(2, 3, 64, 64)
    assert not torch.equal(model(x)[0], model(x)[0])
    model.eval()
    assert torch.equal(model(x)[0], model(x)[0])


def test_other_inputs_and_activations():
    model = LOLViT(TINY, in_channels=4, act_cfg=dict(type='HSwish'), norm_cfg=dict(type='SyncBN'))
    assert model.eval()(torch.randn(1, 4, 32, 32))[0].shape == (1, 48, 1, 1)


def test_pretrained_init_cfg_loads_from_a_classifier(tmp_path):
    source = settled(LOLViT(TINY))
    state = {f'backbone.{k}': v for k, v in source.state_dict().items()}
    torch.save(dict(state_dict=state), tmp_path / 'classifier.pth')
    init = dict(type='Pretrained', checkpoint=str(tmp_path / 'classifier.pth'), prefix='backbone.')
    model = LOLViT(TINY, init_cfg=init)
    model.init_weights()
    torch.testing.assert_close(model.state_dict(), source.state_dict(), rtol=0, atol=0)


def corner_to_corner(**kwargs) -> float:
    """Largest gradient of the output's first pixel by the input's pixels in the far corner."""
    model = settled(LOLViT('x', **kwargs))
    x = torch.randn(1, 3, 64, 1024, requires_grad=True)
    model(x)[0][0, :, 0, 0].sum().backward()
    return x.grad[..., -8:, -8:].abs().max().item()


def test_the_far_corner_reaches_every_output_pixel_through_attention_alone():
    assert corner_to_corner() > 0
    assert corner_to_corner(global_share=0) == 0


@pytest.mark.parametrize('arch', ARCHS)
def test_attention_has_its_share_of_the_fused_signal_at_the_start(arch):
    model, images = LOLViT(arch), torch.randn(4, 3, 128, 128)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = 1.0
    model(images)  # the running statistics are now this batch's
    shares = attention_shares(model, images)
    assert model.training
    glff = [
        d for d, kind in zip(ARCHS[arch]['depths'], ('', '', 'glff', 'glff'), strict=True) if kind
    ]
    assert len(shares) == sum(glff)
    assert all(0.2 < share < 0.6 for share in shares.values()), shares  # 0.1 without the gain


@pytest.mark.parametrize(
    ('kwargs', 'message'),
    [
        (dict(arch='xl'), r"arch must be one of \('xx', 'x', 's'\) or a dict, got 'xl'"),
        (dict(arch=dict(stem=8)), "an arch dict needs .*'channels'"),
        (dict(arch=dict(TINY, channels=(16, 24))), 'need one length'),
        (dict(arch=dict(TINY, blocks=('a', 'b', 'c', 'd'))), "'ghost' or 'glff'"),
        (dict(arch=dict(TINY, channels=(8, 16, 24, 32))), r'must grow, stem first, got \(8, 8, '),
        (dict(out_indices=(4,)), r'out_indices must be one or more of -4 to 3, got \(4,\)'),
        (dict(out_indices=()), 'out_indices must be'),
        (dict(out_indices='abc'), "out_indices must be .* got 'abc'"),
        (dict(out_indices=(1.5,)), 'out_indices must be'),
        (dict(out_indices=None), 'out_indices must be'),
        (dict(arch=None), 'or a dict, got None'),
        (dict(frozen_stages=5), 'frozen_stages must be -1 to 4, got 5'),
        (dict(global_share=1.5), 'global_share must be within 0 to 1, got 1.5'),
    ],
    ids=lambda value: str(value)[:24],
)
def test_bad_arguments_are_named(kwargs, message):
    with pytest.raises(ValueError, match=message):
        LOLViT(**kwargs)


@pytest.mark.parametrize(
    ('shape', 'message'),
    [
        ((1, 4, 32, 32), r'images \(B, 3, H, W\).* got \(1, 4, 32, 32\)'),
        ((1, 3, 0, 32), 'no empty side'),
        ((3, 32, 32), 'expects images'),
        ((1, 3, 32, 32), 'BatchNorm cannot train on one value per channel'),
    ],
)
def test_bad_inputs_are_named(shape, message):
    with pytest.raises(ValueError, match=message):
        LOLViT(TINY).train()(torch.randn(shape))


@pytest.mark.parametrize(
    'kwargs',
    [dict(norm_eval=True), dict(frozen_stages=4), dict(norm_cfg=dict(type='GN', num_groups=4))],
    ids=str,
)
def test_one_value_per_channel_is_fine_where_no_batchnorm_trains(kwargs):
    (out,) = LOLViT(TINY, **kwargs).train()(torch.randn(1, 3, 32, 32))
    assert out.shape[2:] == (1, 1) and out.isfinite().all()


def test_padding_a_batch_changes_the_features_little():
    torch.manual_seed(0)
    x = torch.nn.functional.interpolate(torch.randn(1, 3, 20, 20), scale_factor=8)
    padded = torch.nn.functional.pad(x, (0, 32))  # a sixth of it, whose windows are all zero
    model, twin = settled(LOLViT('x')), settled(LOLViT('x', global_share=0))
    for net, most in ((model, 0.25), (twin, 1e-5)):
        with torch.no_grad():
            alone, beside = net(x)[0][..., :-2], net(padded)[0][..., :3]
        assert (beside - alone).norm() < most * alone.norm()


BUILD = """
from mmengine.config import ConfigDict
from mmengine.registry import DefaultScope, MODELS
DefaultScope.get_instance('test', scope_name='{scope}')
for type, kwargs in [('LOLViT', {{}}), ('FastWindowAttention', dict(in_channels=8))]:
    print(MODELS.build(ConfigDict(type='mmlolvit.' + type, **kwargs)).__class__.__name__)
"""


@pytest.mark.slow
@pytest.mark.parametrize('scope', ['mmengine', 'mmpretrain', 'mmdet', 'mmseg'])
def test_builds_in_every_scope_with_nothing_imported_before(scope):
    code = [sys.executable, '-c', BUILD.format(scope=scope)]
    done = subprocess.run(code, capture_output=True, text=True, check=True)
    assert done.stdout.split()[-2:] == ['LOLViT', 'FastWindowAttention']


@pytest.mark.slow
def test_fwa_is_a_plugin_of_mmdets_resnet():
    from mmdet.models import ResNet

    plugin = dict(
        cfg=dict(type='mmlolvit.FWAPlugin'),
        stages=(False, False, True, True),
        position='after_conv3',
    )
    model, plain = ResNet(50, plugins=[plugin]), ResNet(50)
    names = [n for n, m in model.named_modules() if type(m).__name__ == 'FWAPlugin']
    assert len(names) == 6 + 3
    outs = model(torch.randn(2, 3, 64, 64))
    assert [o.shape for o in outs] == [o.shape for o in plain(torch.randn(2, 3, 64, 64))]
    sum(o.sum() for o in outs).backward()
    assert all(p.grad is not None for n in names for p in model.get_submodule(n).parameters())


def test_local_twin_has_no_attention_and_all_shares_build():
    for share, size in itertools.product((0, 0.5, 1), (32, 48)):
        model = LOLViT(TINY, global_share=share)
        has = any('attention' in name for name, _ in model.named_parameters())
        assert has == (share > 0)
        assert model(torch.randn(2, 3, size, size))[0].isfinite().all()


def test_weighted_cross_entropy_is_the_mean_over_what_is_not_ignored():
    weights = [0.2, 1.0, 0.5]
    loss = WeightedCrossEntropy(weights, loss_weight=2.0)
    logits, label = torch.randn(2, 3, 4, 5, requires_grad=True), torch.randint(3, (2, 4, 5))
    label[0, :2] = 255
    expected = 2 * torch.nn.functional.cross_entropy(
        logits, label, weight=torch.tensor(weights), ignore_index=255
    )
    torch.testing.assert_close(loss(logits, label), expected)
    assert loss(logits, torch.full_like(label, 255)) == 0
    with pytest.raises(ValueError, match='no sampler of pixels'):
        loss(logits, label, weight=torch.ones(2, 4, 5))


@pytest.mark.filterwarnings('ignore:Default ``avg_non_ignore``')
def test_weighted_cross_entropy_is_mmsegs():
    """Without ignored pixels, on which mmseg 1.2.2 fails."""
    from mmseg.models.losses import CrossEntropyLoss

    weights = [0.2, 1.0, 0.5]
    logits, label = torch.randn(2, 3, 4, 5, requires_grad=True), torch.randint(3, (2, 4, 5))
    found, expected = (
        loss(logits, label, ignore_index=255)
        for loss in (WeightedCrossEntropy(weights), CrossEntropyLoss(class_weight=weights))
    )
    assert found == expected
    gradients = [torch.autograd.grad(value, logits)[0] for value in (found, expected)]
    assert torch.equal(*gradients)
