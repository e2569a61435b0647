"""`python -m moorage.cli`, where the command itself is not installed."""

from moorage.cli.main import main

main()
