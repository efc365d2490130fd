"""From files to examples: where they lie, how they come here, what is in them, what is kept of them."""
