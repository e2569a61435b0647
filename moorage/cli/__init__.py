"""The `moor` command. moorage.cli.main says how it is put together."""
