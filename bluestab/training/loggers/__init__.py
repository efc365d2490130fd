"""Where the scores of a run are told besides its record; a module and a yaml each."""
