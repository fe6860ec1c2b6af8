"""Every test run has a disk cache of its own, so that none depends on an earlier one."""

import os
import tempfile

_directory = tempfile.TemporaryDirectory(prefix="minicomp-tests-")
os.environ["MINICOMP_CACHE_DIR"] = _directory.name
for _variable in ("MINICOMP_DEBUG", "MINICOMP_NUM_THREADS", "MINICOMP_CPU"):
    os.environ.pop(_variable, None)
