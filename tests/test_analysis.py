import subprocess
import sys

import pytest
import torch
from torch import nn

from mmlolvit.analysis import Cost, complexity
from mmlolvit.cli.get_flops import main
from mmlolvit.models import FastWindowAttention, LOLViT


def test_convolutions_and_linear_layers_count_as_by_hand():
    model = nn.Sequential(
        nn.Conv2d(4, 8, 3, stride=2, padding=1, groups=2), nn.BatchNorm2d(8), nn.ReLU()
    )
    model.head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 10))
    costs = complexity(model, torch.randn(3, 4, 16, 16))
    conv = Cost(8 * 2 * 9 + 8, 3 * 8 * 64 * 2 * 9, 3 * 8 * 64)
    head = Cost(8 * 10 + 10, 3 * 8 * 10, 3 * 10)
    total = Cost(conv.parameters + 16 + head.parameters, conv.macs + head.macs, 3 * (8 * 64 + 10))
    assert costs == {'0': conv, '1': Cost(16), 'head': head, 'total': total}


@pytest.mark.parametrize('score', ['relu', 'softmax', 'relu_norm'])
def test_both_products_of_the_attention_count(score):
    h, w, c, d = 6, 10, 8, 4
    n, m = h * w, 2 * 3  # windows of 3 x 4
    total = complexity(FastWindowAttention(c, d, score), torch.randn(1, c, h, w))['total']
    assert total.macs == n * c * d + m * c * d + n * m * d + n * m * c
    assert total.activations == n * d + m * d + n * m + n * c


def test_fused_attention_kernels_are_looked_into():
    q = torch.randn(1, 1, 5, 4)

    class Attention(nn.Module):
        def forward(self, x):
            return nn.functional.scaled_dot_product_attention(x, x, x)

    assert complexity(Attention(), q)['total'].macs == 2 * 5 * 5 * 4


def test_counting_leaves_the_model_as_it_was():
    model = LOLViT('xx').train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    costs = complexity(model, torch.randn(1, 3, 64, 64))
    assert model.training and all(torch.equal(before[k], v) for k, v in model.state_dict().items())
    parts = [cost for name, cost in costs.items() if name != 'total']
    assert sum(part.macs for part in parts) == costs['total'].macs
    assert list(costs) == ['stem', *(f'stages.{i}' for i in range(4)), 'total']


@pytest.mark.slow
@pytest.mark.parametrize(
    ('config', 'parts'),
    [
        ('cls/lolvit_x_in1k', ['head']),
        ('det/retinanet_lolvit_x_digits', ['neck', 'bbox_head']),
        ('det/mask-rcnn_lolvit_x_digits', ['neck', 'rpn_head', 'roi_head']),
        ('seg/fpn_lolvit_x_digits', ['neck', 'decode_head']),
    ],
)
def test_tool_counts_whole_models(config, parts, capsys):
    assert main([f'configs/{config}.py', '--size', '96', '160']) == 0
    header, _, *rows = capsys.readouterr().out.splitlines()
    assert header.startswith('| 96 x 160 |')
    names, *columns = zip(*(row.strip('| ').split(' | ') for row in rows), strict=True)
    stages = ['backbone.stem', *(f'backbone.stages.{i}' for i in range(4))]
    assert list(names) == [*stages, *parts, 'total']
    for column in columns:
        *values, total = map(float, column)
        assert min(values) > 0 and sum(values) == pytest.approx(total, abs=1e-3)


def test_tool_refuses_a_size_of_nothing():
    command = [sys.executable, 'tools/get_flops.py', 'configs/cls/lolvit_x_digits.py', '--size']
    for size in (['0'], ['1', '2', '3']):
        done = subprocess.run([*command, *size], capture_output=True, text=True)
        assert done.returncode == 2 and 'expects a side, or height and width' in done.stderr
