"""The public names, as programs and type checkers see them, and the errors among them."""

import pickle
import re
from pathlib import Path

import pytest

import webex_loopback
from webex_loopback import errors


def test_type_checkers_and_programs_see_the_same_names() -> None:
    stub = Path(webex_loopback.__file__).with_suffix(".pyi").read_text(encoding="utf-8")
    declared = {name: home for home, name in re.findall(r"^from \.([\w.]+) import (\w+) as \2$", stub, re.MULTILINE)}
    assert declared == vars(webex_loopback)["_NAMES"]
    assert sorted(declared) == sorted(vars(webex_loopback)["__all__"])
    assert {name for name in dir(webex_loopback) if hasattr(webex_loopback, name)} >= set(declared)
    with pytest.raises(AttributeError, match="no attribute 'get_tokens'"):
        getattr(webex_loopback, "get_tokens")  # noqa: B009 - mypy knows that it does not exist


@pytest.mark.parametrize(
    "error",
    [
        errors.ConfigurationError("what", setting="WEBEX_CLIENT_ID", remedy="how"),
        errors.AuthorizationDenied("what", error="access_denied"),
        errors.LoginTimeout("what", ignored=2),
        errors.TokenEndpointError("what", status_code=429, retry_after=1.5),
        errors.TokenStoreError("what", problem="locked"),
    ],
)
def test_an_error_survives_a_process_pool(error: errors.WebexLoopbackError) -> None:
    copy = pickle.loads(pickle.dumps(error))
    assert (type(copy), copy.args, vars(copy)) == (type(error), error.args, vars(error))
    assert vars(copy)["__notes__"] == [error.remedy]
