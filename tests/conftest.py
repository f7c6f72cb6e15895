"""What holds for every test: how long one takes says nothing of what it tests."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

settings.register_profile("peakvram", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("peakvram")
