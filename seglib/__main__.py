"""`python -m seglib COMMAND --help` tells what each command takes."""

import sys

from seglib.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
