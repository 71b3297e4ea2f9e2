"""Converters of real data to message logs: ``python -m tests.convert.<name> --data DIR --out LOG``.

DIR is the data folder that holds ``ev``. The logs are replayed with ``chargestream replay``.
"""
