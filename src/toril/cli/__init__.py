"""The command line. `--help` imports nothing heavy."""
