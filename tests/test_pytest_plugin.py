"""The fixtures for other projects' tests, used as another project would: in a pytest run of its own."""

import pytest

pytest_plugins = ["pytester"]

TESTS = """
import time

from webex_loopback import TokenSource, get_token


def test_a_logged_in_profile(webex_profile, webex_sandbox):
    assert get_token() == webex_profile.access_token.get_secret_value()
    assert webex_sandbox.count("refresh_token") == 0


def test_a_clock_to_move(webex_profile, webex_sandbox, webex_clock):
    source = TokenSource(clock=webex_clock)
    before = source.get_token()
    webex_clock.move(13 * 86_400)
    assert source.get_token() != before
    assert webex_sandbox.count("refresh_token") == 1
    webex_clock.move(-1)
    assert webex_clock() < time.time() + 13 * 86_400


def test_faults_of_the_sandbox(webex_profile, webex_sandbox, webex_clock, caplog):
    webex_clock.move(13 * 86_400)
    webex_sandbox.switches.fault = "503"
    source = TokenSource(clock=webex_clock)
    assert source.get_token() == webex_profile.access_token.get_secret_value()
    assert "could not be refreshed" in caplog.text


def test_no_setting_of_the_developers_gets_in(webex_profile):
    assert get_token() == webex_profile.access_token.get_secret_value()


def test_nothing_is_shared_between_tests(webex_sandbox):
    import pytest
    from webex_loopback import LoginRequired

    with pytest.raises(LoginRequired):
        get_token()
"""


def test_another_projects_tests_pass_with_the_fixtures(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytester.makepyfile(TESTS)
    pytester.path.joinpath("config.env").write_text("WEBEX_ACCESS_TOKEN=the-developers-own\n")
    monkeypatch.setenv("WEBEX_TOKEN_URL", "https://127.0.0.1:9/nowhere")
    result = pytester.runpytest_subprocess("-W", "error", "-p", "no:cacheprovider")
    result.assert_outcomes(passed=5)


def test_the_plugin_costs_nothing_until_a_fixture_is_asked_for(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import sys

        def test_what_is_loaded():
            assert "webex_loopback.pytest_plugin" in sys.modules
            assert not {"aiohttp", "httpx", "pydantic", "webex_loopback.sandbox"} & set(sys.modules)
        """
    )
    pytester.runpytest_subprocess("-p", "no:cacheprovider").assert_outcomes(passed=1)
