"""What comes after a sweep: its models applied to new text, exported, averaged, checked."""
