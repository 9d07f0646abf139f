"""`python -m chatserver` is the `chatserver` command."""

from .cli import main

main()
