"""The pytest plugin, used as another project would use it: in a pytest run of its own."""

import pytest

pytest_plugins = ["pytester"]

TESTS = """
import pytest
from webex_loopback import LoginRequired, TokenSource, get_token


def test_a_logged_in_profile(webex_profile, webex_sandbox):
    assert get_token() == webex_profile.access_token.get_secret_value()
    assert webex_sandbox.count("refresh_token") == 0


def test_a_clock_to_move(webex_profile, webex_sandbox, webex_clock):
    source = TokenSource(clock=webex_clock)
    before = source.get_token()
    webex_clock.move(15 * 86_400)
    assert source.get_token() != before
    assert webex_sandbox.count("refresh_token") == 1


def test_nothing_is_shared_between_tests(webex_sandbox):
    with pytest.raises(LoginRequired):
        get_token()
"""


def test_another_projects_tests_pass_with_the_fixtures(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytester.makepyfile(TESTS)
    # Nothing of the developer's gets in.
    pytester.path.joinpath("config.env").write_text("WEBEX_ACCESS_TOKEN=the-developers-own\n", encoding="utf-8")
    pytester.path.joinpath("config.env").chmod(0o600)
    monkeypatch.setenv("WEBEX_TOKEN_URL", "https://127.0.0.1:9/nowhere")
    monkeypatch.setenv("WEBEX_TOKEN_STORE", "keyring")
    result = pytester.runpytest_subprocess("-W", "error", "-p", "no:cacheprovider")
    result.assert_outcomes(passed=3)


def test_the_plugin_loads_nothing_until_a_fixture_is_used(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import sys

        def test_what_is_loaded():
            assert "webex_loopback.clients.pytest_plugin" in sys.modules
            assert not {"aiohttp", "httpx", "pydantic", "webex_loopback.tokens.source"} & set(sys.modules)
        """
    )
    pytester.runpytest_subprocess("-p", "no:cacheprovider").assert_outcomes(passed=1)
