"""Training that survives: where MMEngine's runner would lose a run, or repeat it otherwise."""
