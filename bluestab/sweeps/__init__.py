"""Many runs: from a command line with choices to runs, and to the processes that do them."""
