from mmlolvit.cli.analyze_results import main

raise SystemExit(main())
