"""What is true: pure functions and kernels, no I/O client, no engine, no OS clock."""

from ._cache import use_own_cache

use_own_cache()
