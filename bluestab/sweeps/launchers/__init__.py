"""Where the runs of a sweep go: one file here, one yaml in `conf/hydra/launcher`."""
