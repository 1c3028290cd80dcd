"""python -m berth: the command."""

from ._command import main

main()
