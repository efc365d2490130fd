"""What a person sees in the terminal: tables, progress, what is left to do."""
