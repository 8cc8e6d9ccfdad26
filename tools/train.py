from mmlolvit.cli.train import main

raise SystemExit(main())
