from mmlolvit.cli.visualize import main

raise SystemExit(main())
