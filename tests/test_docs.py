"""What the guides tell to type, typed, and numbers that stand in two places."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
START = 'docs/index.md'
# Every page goes on from what the first has made. The deployment, analysis and benchmark pages are
# references: their commands are those that made their figures.
GUIDES = [
    START,
    'README.md',
    'docs/own_data.md',
    'docs/configs.md',
    'docs/fwa.md',
    'docs/model_zoo.md',
    'docs/troubleshooting.md',
]
# Left out are blocks below one of these: they change the environment, or need what is not here.
LEFT_OUT = '<!-- set-up -->', '<!-- needs data -->'
BLOCK = re.compile(r'^(?:(<!-- [^>]+ -->)\n)?```(\w*)\n(.*?)^```$', re.MULTILINE | re.DOTALL)

# Classifiers of digits are trained whole. Other models see 16 images, and so a step or two an
# epoch or in all, so that the guides run in minutes; the commands and files are the same.
FEW = '{0}.dataset.indices=16 {0}.num_workers=0 {0}.persistent_workers=False'
FEW = ' '.join(FEW.format(f'{split}_dataloader') for split in ('train', 'val', 'test'))
SHORT = {
    'retinanet_lolvit_x_digits': f'{FEW} train_cfg.val_interval=12',
    'fpn_lolvit_x_digits': f'{FEW} train_cfg.max_iters=2 train_cfg.val_interval=2',
    'lolvit_x_mine': f'{FEW} train_cfg.val_interval=30',
}


def blocks(page: str) -> list[tuple[str, str, str]]:
    """Language, text and the name of the file that the text before a fenced block ends with."""
    content = (ROOT / page).read_text()
    found = []
    for match in BLOCK.finditer(content):
        mark, language, text = match.groups()
        assert mark in (None, *LEFT_OUT), f'{page}: unknown mark {mark}'
        if mark is None:
            names = re.findall(r'`([\w/.-]+\.py)`', content[: match.start()].split('```')[-1])
            found.append((language, text, names[-1] if names else ''))
    return found


def commands(text: str) -> list[str]:
    """The command lines of a shell block, continued ones joined."""
    lines = re.sub(r'\\\n\s*', '', text).splitlines()
    return [line for line in lines if line.strip() and not line.startswith('#')]


def shorten(command: str) -> str:
    """A command that trains or tests, cut short where `SHORT` says so."""
    for name, options in SHORT.items():
        if re.search(rf'\b(train|test)(\.py)? (\S*/)?{name}\b', command):
            flag = '' if '--cfg-options' in command else '--cfg-options'
            return f'{command} {flag} {options}'
    return command


class Reader:
    """Does in a folder of its own what a page says; what was done once is not done again."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.done = set()
        for name in ('configs', 'tools'):
            shutil.copytree(ROOT / name, folder / name)
        (folder / 'requirements').symlink_to(ROOT / 'requirements')
        path = os.pathsep.join((str(Path(sys.executable).parent), os.environ['PATH']))
        self.environment = dict(os.environ, PATH=path, OMP_NUM_THREADS='1')

    def follow(self, page: str) -> None:
        for language, text, file in blocks(page):
            if language == 'python' and text.startswith('_base_'):
                (self.folder / file).write_text(text)
            elif language == 'python':
                self.run([sys.executable, '-'], f'{page}, Python', text)
            elif language in ('bash', 'sh'):
                for command in commands(text):
                    self.run(['bash', '-ec', shorten(command)], f'{page}: {command}')

    def run(self, args: list[str], what: str, text: str = '') -> None:
        key = (*args, text)
        if key in self.done:
            return
        result = subprocess.run(
            args,
            cwd=self.folder,
            env=self.environment,
            input=text,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        assert result.returncode == 0, f'{what}\n{text}\n{result.stdout[-3000:]}'
        self.done.add(key)


@pytest.fixture(scope='module')
def reader(tmp_path_factory):
    return Reader(tmp_path_factory.mktemp('reader'))


@pytest.mark.slow
@pytest.mark.parametrize('page', GUIDES)
def test_what_a_guide_says_works(page, reader):
    reader.follow(START)
    reader.follow(page)
    if page == START:
        folder = reader.folder / 'answers'
        assert (folder / 'predictions.jsonl').is_file() and list(folder.glob('**/*.png'))


@pytest.mark.parametrize('page', GUIDES)
def test_no_block_of_a_guide_is_left_out_by_mistake(page):
    content = (ROOT / page).read_text()
    assert content.count('\n```') == 2 * len(BLOCK.findall(content))
    for match in BLOCK.finditer(content):
        _, language, text = match.groups()
        typed = re.match(r'(python|pip|mmlolvit|make) ', text)
        assert language in ('bash', 'python') or not typed, text


def test_the_model_zoo_is_that_of_the_metafiles():
    page = (ROOT / 'docs/model_zoo.md').read_text()
    rows = set(re.findall(r'^\| `(.+)` \| (.+) \| (.+) \| (.+) \|$', page, re.MULTILINE))
    models = [
        model
        for file in ROOT.glob('configs/*/metafile.yml')
        for model in yaml.safe_load(file.read_text())['Models']
    ]
    results = {
        (model['Config'], result['Dataset'], metric, str(value))
        for model in models
        for result in model.get('Results', ())
        for metric, value in result['Metrics'].items()
    }
    assert rows == results


@pytest.mark.slow
def test_the_site_builds_without_a_broken_link_and_loads_nothing_from_elsewhere(tmp_path):
    command = [sys.executable, '-m', 'mkdocs', 'build', '--strict', '--site-dir', str(tmp_path)]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    pages = list(tmp_path.glob('**/*.html'))
    assert len(pages) > 15
    source = re.compile(r'<(?:script|link|img|iframe)\b[^>]*?(?:src|href)="?([^" >]+)')
    for page in pages:
        urls = source.findall(page.read_text())
        assert not [url for url in urls if re.match('(https?:)?//', url)], page
