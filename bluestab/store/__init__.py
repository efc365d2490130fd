"""Looking after a store: its size, its leftovers, its damage, taking in another one."""
