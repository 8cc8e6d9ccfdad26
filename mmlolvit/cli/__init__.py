"""Command lines, each one ``main(argv) -> exit code``: 0, 2 for a mistake, 130 for Ctrl-C."""
