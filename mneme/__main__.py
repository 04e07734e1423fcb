"""`python -m mneme` is `mneme`."""

from mneme.cli import main

main()
