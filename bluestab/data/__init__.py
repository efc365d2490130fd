"""Files to examples: where they lie, how they come here, what is in them."""
