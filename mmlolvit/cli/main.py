"""``mmlolvit COMMAND ...``: every tool, from any folder."""

import sys
from importlib import import_module

from .. import __version__

COMMANDS = dict(
    train='mmlolvit.cli.train',
    test='mmlolvit.cli.test',
    infer='mmlolvit.cli.infer',
    demo='mmlolvit.cli.demo',
    export='mmlolvit.cli.export_onnx',
    benchmark='mmlolvit.benchmark.speed',
    get_flops='mmlolvit.cli.get_flops',
    check_dataset='mmlolvit.cli.check_dataset',
    plot_runs='mmlolvit.cli.plot_runs',
    analyze_results='mmlolvit.cli.analyze_results',
    ablate='mmlolvit.cli.ablate',
    visualize='mmlolvit.cli.visualize',
    publish_model='mmlolvit.cli.publish_model',
    doctor='mmlolvit.doctor',
)
USAGE = f"""usage: mmlolvit COMMAND ...

commands: {', '.join(COMMANDS)}
`mmlolvit COMMAND --help` says what one takes. A config is a file, or the name of one that comes
with the package."""


def main(argv: list[str] | None = None) -> int:
    argv = sys.argv[1:] if argv is None else argv
    if argv in (['-h'], ['--help']):
        print(USAGE)
        return 0
    if argv == ['--version']:
        print(__version__)
        return 0
    if not argv or argv[0] not in COMMANDS:
        print(USAGE, file=sys.stderr)
        if argv:
            print(f'error: no command {argv[0]!r}', file=sys.stderr)
        return 2
    sys.argv[0] = f'mmlolvit {argv[0]}'  # what argparse calls the program
    return import_module(COMMANDS[argv[0]]).main(argv[1:])
