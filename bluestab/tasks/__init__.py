"""Tasks: what is predicted, from which files, judged by which number. They know no model."""
