"""The command line: `python -m seglib COMMAND --help`."""
