import re

import pytest

from mmlolvit.benchmark.speed import main


@pytest.mark.slow
def test_compares_ours_with_a_rival_in_every_runtime(capsys):
    argv = ['mobilevit_xxs', 'lolvit_xx', '--size', '64', '--rounds', '1', '--batches', '2']
    assert main(argv) == 0
    table = capsys.readouterr().out
    for runtime in ('eager', 'onnxruntime'):
        assert f'| {runtime}, batch 2 |' in table
    rows = re.findall(r'\| (mobilevit_xxs|lolvit_xx) \| ([\d.]+) \| \S+ \| ([\d.]+) \|', table)
    assert len(rows) == 4
    assert all(float(ms) > 0 for _, ms, _ in rows)
    assert [ratio for name, _, ratio in rows if name == 'mobilevit_xxs'] == ['1.00', '1.00']


def test_an_unknown_rival_is_a_clear_error(capsys):
    assert main(['resnet_of_nobody']) == 2
    assert 'timm' in capsys.readouterr().err
