"""One run: checked, prepared, assembled, trained, scored, recorded."""
