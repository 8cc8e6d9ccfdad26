from mmlolvit.cli.infer import main

raise SystemExit(main())
