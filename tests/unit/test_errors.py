from __future__ import annotations

from profiler.errors import ConfigError, EnvironmentUnfitError, PeakvramError


def test_each_kind_of_error_has_its_exit_code() -> None:
    codes = [kind.exit_code for kind in (PeakvramError, ConfigError, EnvironmentUnfitError)]
    assert codes == [1, 2, 3]


def test_the_text_of_an_error_holds_its_hint() -> None:
    error = ConfigError("unknown GPU 'rtx-4080x'", hint="did you mean 'rtx-4080'?")
    assert str(error) == "unknown GPU 'rtx-4080x' (did you mean 'rtx-4080'?)"
    assert str(ConfigError("no hint")) == "no hint"
