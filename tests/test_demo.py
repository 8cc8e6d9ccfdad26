"""tools/demo.py: what it offers, and its page in a real browser."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path
from urllib.error import HTTPError
from urllib.parse import quote, urlsplit
from urllib.request import Request, urlopen

import cv2
import numpy as np
import pytest
import torch

import mmlolvit
from mmlolvit.cli.demo import find_choices, label_choices, main, summarize, to_click
from mmlolvit.cli.outputs import SCORE_THR
from mmlolvit.errors import UserError
from mmlolvit.inference import build_model
from mmlolvit.zoo import read_config

ROOT = Path(__file__).parents[1]
CLS, SEG = 'lolvit_xx_digits', 'fpn_lolvit_x_digits'
WAIT = 120  # s for a server or a page, on a busy machine
BROWSER = next(filter(None, map(shutil.which, ('chromium', 'chromium-browser', 'chrome'))), None)
LACKING = [
    text
    for there, text in (
        (find_spec('gradio'), 'gradio: pip install --no-deps -r requirements/demo.txt'),
        (find_spec('playwright'), 'playwright: pip install -r requirements/dev.txt'),
        (BROWSER, 'a browser: apt-get install chromium'),
    )
    if not there
]
needs_gradio = pytest.mark.skipif(
    not find_spec('gradio'), reason='the demo page is an extra: see requirements/demo.txt'
)


def save_weights(name: str, path: Path) -> None:
    torch.manual_seed(0)
    model = build_model(read_config(name))
    model.init_weights()
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(dict(state_dict=model.state_dict()), path)


@pytest.fixture
def workspace(tmp_path, monkeypatch):
    """Weights of a classifier, and of a decoder in a work dir; an image, and two broken files."""
    monkeypatch.chdir(tmp_path)
    save_weights(CLS, Path('cls.pth'))
    save_weights(SEG, Path('work_dirs', SEG, 'iter_1.pth'))
    rng = np.random.default_rng(0)
    small = rng.integers(0, 256, (6, 9, 3), np.uint8)
    cv2.imwrite('image.png', cv2.resize(small, (144, 96), interpolation=cv2.INTER_CUBIC))
    Path('text.png').write_text('no image')
    Path('broken.pth').write_text('no checkpoint')


@pytest.fixture
def url(workspace):
    """Of a page that the real tool serves."""
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        port = free.getsockname()[1]
    command = [sys.executable, ROOT / 'tools/demo.py', '--port', port]
    command += ['--models', CLS, 'cls.pth', CLS, 'broken.pth']
    with open('log', 'w') as log:
        process = subprocess.Popen(
            list(map(str, command)),
            stdout=log,
            stderr=log,
            env=dict(os.environ, OMP_NUM_THREADS='1'),
        )
    try:
        end = time.monotonic() + WAIT
        while 'models: 3, on http' not in Path('log').read_text():
            assert process.poll() is None and time.monotonic() < end, Path('log').read_text()
            time.sleep(0.2)
        yield f'http://127.0.0.1:{port}'
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0
        assert 'Traceback' not in Path('log').read_text()
    finally:
        process.kill()


def expect_picture(predictor, file: str) -> np.ndarray:
    image = predictor.read(file)
    ((_, sample),) = predictor.predict(iter([image]))
    return predictor.draw(image['img'], sample, SCORE_THR)


def ask(url: str, data: bytes | None = None, **headers: str) -> int:
    """The status that a server answers with."""
    try:
        with urlopen(Request(url, data, headers)) as answer:
            return answer.status
    except HTTPError as error:
        return error.code


@pytest.mark.slow
@needs_gradio
def test_files_of_the_machine_and_oversized_uploads_are_refused(url):
    assert ask(url) == 200
    for path in ('/etc/passwd', Path('cls.pth').resolve(), '../../etc/passwd', 'log'):
        assert ask(f'{url}/gradio_api/file={quote(str(path))}') in (403, 404)

    def upload(size: int) -> int:
        head = b'--b\r\nContent-Disposition: form-data; name="files"; filename="a.png"\r\n\r\n'
        form = {'Content-Type': 'multipart/form-data; boundary=b'}
        return ask(f'{url}/gradio_api/upload', head + b'0' * size + b'\r\n--b--\r\n', **form)

    assert upload(1000) == 200
    assert upload(33 * 2**20) == 413


@pytest.mark.slow
@pytest.mark.skipif(bool(LACKING), reason=f'this needs {"; ".join(LACKING)}')
def test_an_image_goes_in_and_a_picture_comes_out(url):
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=BROWSER, args=['--no-sandbox'])
        page = browser.new_page()
        page.set_default_timeout(1000 * WAIT)
        asked = set()
        page.on('request', lambda request: asked.add(urlsplit(request.url)))

        def source(name: str) -> str:
            return page.locator(f'#{name} img').get_attribute('src')

        def see(name: str) -> np.ndarray:
            png = np.frombuffer(page.request.get(source(name)).body(), np.uint8)
            return cv2.imdecode(png, cv2.IMREAD_COLOR)[..., ::-1]

        def wait_for_another(name: str, old: str) -> None:
            page.wait_for_function(
                f'old => ![old, undefined].includes(document.querySelector("#{name} img")?.src)',
                arg=old,
            )

        def choose(label: str) -> None:
            page.get_by_label('Model').click()
            page.get_by_role('option', name=label).click()

        page.goto(url)
        upload = page.locator('#file input[type=file]')
        upload.set_input_files('image.png')
        predictor = mmlolvit.load(CLS, 'cls.pth')
        page.wait_for_selector('#attention img')
        np.testing.assert_array_equal(see('picture'), expect_picture(predictor, 'image.png'))
        text = page.locator('#text').inner_text()
        assert text.startswith(f'{predictor("image.png")["name"]}: ')
        assert ' ms ' in text and 'median of 5 runs' in text

        center, before = see('attention'), source('attention')
        box = page.locator('#image img').bounding_box()
        page.mouse.click(box['x'] + box['width'] * 0.1, box['y'] + box['height'] / 2)
        wait_for_another('attention', before)
        assert see('attention').shape == center.shape and (see('attention') != center).any()

        before = source('picture')
        choose(f'segmentation: {SEG}, iter_1.pth')
        wait_for_another('picture', before)
        predictor = mmlolvit.load(SEG, f'work_dirs/{SEG}/iter_1.pth')
        np.testing.assert_array_equal(see('picture'), expect_picture(predictor, 'image.png'))

        choose(f'classification: {CLS}, broken.pth')
        page.get_by_text('broken.pth is cut short, damaged or no checkpoint').wait_for()
        assert not page.locator('#picture').is_visible()
        choose(f'classification: {CLS}, cls.pth')
        page.wait_for_selector('#picture img')

        page.get_by_label('Clear').click()
        page.locator('#picture').wait_for(state='hidden')
        upload.set_input_files('text.png')
        page.get_by_text('text.png cannot be read as an image: it has no header').wait_for()
        assert {part.hostname for part in asked if part.scheme != 'data'} == {'127.0.0.1'}
        browser.close()


@pytest.mark.slow
@needs_gradio
def test_a_port_in_use_is_named(workspace, capsys):
    with socket.socket() as used:
        used.bind(('127.0.0.1', 0))
        used.listen()
        port = str(used.getsockname()[1])
        assert main(['--port', port]) == 2
    assert f'cannot listen on port {port} of 127.0.0.1' in capsys.readouterr().err


def test_without_gradio_it_says_what_to_install(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, 'gradio', None)
    assert main([]) == 2
    message = 'error: gradio is not installed: pip install --no-deps -r requirements/demo.txt'
    assert message in capsys.readouterr().err


@pytest.mark.parametrize('argv', [['--models', CLS], ['--port', '0']])
def test_arguments_that_cannot_be_are_refused(argv, capsys):
    with pytest.raises(SystemExit):
        main(argv)
    assert f'{argv[0]} expects' in capsys.readouterr().err


def test_models_are_those_given_and_those_of_work_dirs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match='no checkpoints under work_dirs; name a model'):
        find_choices([])
    with pytest.raises(UserError, match='did you mean lolvit_x_digits'):
        find_choices(['lolvit_x_digit', 'none.pth'])
    with pytest.raises(UserError, match=r'checkpoint none.pth does not exist'):
        find_choices([CLS, 'none.pth'])
    for folder in (CLS, SEG, 'mine', 'unknown', 'wrong'):
        Path('work_dirs', folder).mkdir(parents=True)
        Path('work_dirs', folder, 'epoch_1.pth').touch()
    Path('work_dirs/mine/config.py').write_text("_base_ = 'mmlolvit::cls/lolvit_xx_digits.py'\n")
    Path('work_dirs/wrong/config.py').write_text('model = (\n')
    Path('work_dirs', SEG, 'epoch_2.pth').touch()
    os.utime(Path('work_dirs', SEG, 'epoch_1.pth'), (0, 0))
    given = f'work_dirs/{CLS}/epoch_1.pth'
    choices = find_choices([CLS, given])
    assert [(choice.config, choice.checkpoint) for choice in choices] == [
        (CLS, given),
        (SEG, f'work_dirs/{SEG}/epoch_2.pth'),
        (SEG, f'work_dirs/{SEG}/epoch_1.pth'),
        ('work_dirs/mine/config.py', 'work_dirs/mine/epoch_1.pth'),
    ]
    assert 'passed over work_dirs/wrong/epoch_1.pth: the config has' in capsys.readouterr().err
    Path('other').mkdir()
    shutil.copy(given, 'other/epoch_1.pth')
    labels = label_choices(find_choices([CLS, given, CLS, 'other/epoch_1.pth']))
    assert labels[:3] == [
        f'classification: {CLS}, {given}',
        f'classification: {CLS}, other/epoch_1.pth',
        f'segmentation: {SEG}, epoch_2.pth',
    ]


def test_answers_in_short():
    scores = np.array([0.1, 0.6, 0.3], np.float32)
    answer = dict(label=1, name='b', score=0.6, scores=scores)
    assert list(summarize(answer, tuple('abc'))) == ['b', 'c', 'a']
    boxes = np.array([[1, 2, 3, 4.04], [0, 0, 1, 1]], np.float32)
    answer = dict(boxes=boxes, scores=np.array([0.5, 0.1]), names=['a', 'b'])
    assert summarize(answer, tuple('ab')) == [dict(name='a', score=0.5, box=[1, 2, 3, 4])]
    answer = dict(map=np.array([[2, 2], [2, 0]]))
    assert summarize(answer, tuple('abc')) == dict(c=0.75, a=0.25)


@pytest.mark.parametrize(('size', 'factor'), [((100, 80), 4), ((400, 500), 1), ((900, 2560), 0.5)])
def test_an_image_to_click_on_fits_the_page(size, factor):
    shown, scale = to_click(np.zeros((*size, 3), np.uint8))
    assert (scale, shown.shape[:2]) == (factor, tuple(int(side * factor) for side in size))
