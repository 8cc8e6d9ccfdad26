from mmlolvit.cli.export_onnx import main

raise SystemExit(main())
