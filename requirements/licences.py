"""Prints the licences of what is installed, as docs/licences.md: `make licences`."""

from importlib.metadata import distributions

OURS = ('mmlolvit', 'pip')


def licence(meta) -> str:
    """As the package states it: an expression, or else its classifiers, or a line of its text."""
    stated = [c.split(' :: ')[-1] for c in meta.get_all('Classifier', ()) if 'License ::' in c]
    text = (meta.get('License') or '').strip().splitlines()
    return (
        meta.get('License-Expression') or ', '.join(stated) or (text or ['not stated'])[0].strip()
    )


def address(meta) -> str:
    links = [link.split(', ')[-1] for link in meta.get_all('Project-URL', ())]
    return meta.get('Home-page') or next(iter(links), '')


def main() -> None:
    found = {d.metadata['Name'].lower(): d.metadata for d in distributions()}
    print(
        '# Licences\n\nOf what `make setup` installs, as each states its own; by `make licences`.\n'
    )
    print('| package | version | licence | |\n|---|---|---|---|')
    for name, meta in sorted(found.items()):
        if name not in OURS:
            print(f'| {meta["Name"]} | {meta["Version"]} | {licence(meta)} | {address(meta)} |')


if __name__ == '__main__':
    main()
