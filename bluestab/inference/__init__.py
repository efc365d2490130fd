"""What comes after the sweep: its models applied to new text, exported, averaged, checked."""
