"""The subcommands of ``chargestream score``: one file each, found by name.

A module exposes ``add_arguments(parser)``, ``run(args) -> int`` and a docstring whose first line is its
help, as the commands themselves do. Heavy imports happen inside `run`.
"""
