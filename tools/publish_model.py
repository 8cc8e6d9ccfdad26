from mmlolvit.cli.publish_model import main

raise SystemExit(main())
