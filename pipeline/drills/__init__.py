"""Drills: one file each, found by its name, run by ``chargestream drill NAME``.

A drill module has ``SUMMARY`` (a line of help), ``add_arguments(parser)``, ``run(args, say) -> dict``
(figures, and ``passed``), and may have ``table(result) -> str``. ``--seed`` and ``--json`` are added to every
drill. A module imports at its top only what is cheap.
"""

PACKAGE = "pipeline.drills"
