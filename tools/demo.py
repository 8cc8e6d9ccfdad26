from mmlolvit.cli.demo import main

raise SystemExit(main())
