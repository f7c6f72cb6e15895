"""What holds for every test: how long one takes says nothing of what it tests, and nobody's cache is read."""

from __future__ import annotations

import os
import tempfile

from hypothesis import HealthCheck, settings

settings.register_profile("peakvram", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("peakvram")

_CACHE = tempfile.TemporaryDirectory(prefix="peakvram-tests-")
os.environ["XDG_CACHE_HOME"] = _CACHE.name
