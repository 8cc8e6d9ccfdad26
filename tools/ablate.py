from mmlolvit.cli.ablate import main

raise SystemExit(main())
