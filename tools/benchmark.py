from mmlolvit.benchmark.speed import main

raise SystemExit(main())
