"""MkDocs hooks: links that work on GitHub work on the site, too."""

import posixpath
import re
from pathlib import Path

from mkdocs.structure.files import File

ROOT = Path(__file__).parents[1]
# Pages of the site that stand outside docs/, by their place in the repository.
OUTSIDE = {'README.md': 'repository/readme.md', 'CONTRIBUTING.md': 'repository/contributing.md'}
LINK = re.compile(r'\]\((?![a-z]+:|#)([^)#\s]+)')
ROLE = re.compile(r':(?:class|func|meth|attr):(?=<code>)')  # of Sphinx, in docstrings


def on_files(files, config):
    for source, uri in OUTSIDE.items():
        files.append(File.generated(config, uri, abs_src_path=str(ROOT / source)))
    return files


def on_page_markdown(markdown, page, config, files):
    """Point relative links at where the files of the repository stand on the site."""
    uri = page.file.src_uri
    places = {place: source for source, place in OUTSIDE.items()}
    source = places.get(uri, f'docs/{uri}')

    def rewrite(match):
        path = posixpath.normpath(posixpath.join(posixpath.dirname(source), match[1]))
        place = OUTSIDE.get(path, path.removeprefix('docs/'))
        if not path.startswith('docs/') and path not in OUTSIDE and (ROOT / path).is_file():
            place = f'repository/{path}.txt'  # which browsers show
            if not files.get_file_from_path(place):
                files.append(File.generated(config, place, abs_src_path=str(ROOT / path)))
        return f']({posixpath.relpath(place, posixpath.dirname(uri) or ".")}'

    # A pipe in code needs no backslash in the tables of Python-Markdown.
    return LINK.sub(rewrite, markdown).replace(r'\|', '|')


def on_page_content(html, page, config, files):
    return ROLE.sub('', html)
