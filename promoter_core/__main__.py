"""`python -m promoter_core` is the `promoter` command."""

from promoter_core.cli import main

main()
