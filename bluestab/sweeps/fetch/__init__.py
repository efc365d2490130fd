"""What a run needs on this machine: is it here, and how to bring it."""
