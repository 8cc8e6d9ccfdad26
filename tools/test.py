from mmlolvit.cli.test import main

raise SystemExit(main())
