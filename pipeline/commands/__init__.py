"""The commands of ``chargestream``: one file each, found by name.

A command module exposes ``add_arguments(parser)`` and ``run(args) -> int`` and a docstring whose first line
is its help. Heavy imports happen inside `run`, so that ``chargestream --help`` stays quick. A file
``journal_info.py`` would be the command ``journal-info``.
"""
