"""From a command line with choices to a list of runs, each a list of plain overrides."""
