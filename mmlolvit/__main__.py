"""``python -m mmlolvit COMMAND ...``."""

from mmlolvit.cli.main import main

raise SystemExit(main())
