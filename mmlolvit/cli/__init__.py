"""Command lines, each one ``main(argv) -> exit code``.

0, 1 where a check found errors, 2 for a mistake, 130 for Ctrl-C.
"""
