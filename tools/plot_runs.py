from mmlolvit.cli.plot_runs import main

raise SystemExit(main())
