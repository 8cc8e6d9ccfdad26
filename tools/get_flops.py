from mmlolvit.cli.get_flops import main

raise SystemExit(main())
