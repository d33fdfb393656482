"""Redirect URIs: which ones can be served, and what is said about the others."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from webex_loopback.errors import ConfigurationError
from webex_loopback.oauth.redirect_uri import RedirectURI

BOTH = ("127.0.0.1", "::1")


@pytest.mark.parametrize(
    ("text", "origin", "hosts", "port", "path"),
    [
        ("http://127.0.0.1:8765/callback", "http://127.0.0.1:8765", ("127.0.0.1",), 8765, "/callback"),
        ("http://127.0.0.1", "http://127.0.0.1", ("127.0.0.1",), 80, "/"),
        ("https://127.0.0.1/", "https://127.0.0.1", ("127.0.0.1",), 443, "/"),
        ("https://127.0.0.1:80/", "https://127.0.0.1:80", ("127.0.0.1",), 80, "/"),
        ("http://127.1.2.3:9/a/b%20c", "http://127.1.2.3:9", ("127.1.2.3",), 9, "/a/b%20c"),
        ("http://localhost:8080/oauth", "http://localhost:8080", BOTH, 8080, "/oauth"),
        ("HTTP://LocalHost:8080/oauth", "http://localhost:8080", BOTH, 8080, "/oauth"),
        ("https://[::1]:8443/cb", "https://[::1]:8443", ("::1",), 8443, "/cb"),
        ("http://[0:0:0:0:0:0:0:1]:81/", "http://[0:0:0:0:0:0:0:1]:81", ("0:0:0:0:0:0:0:1",), 81, "/"),
        ("http://127.0.0.1:8765/cb?from=webex", "http://127.0.0.1:8765", ("127.0.0.1",), 8765, "/cb"),
        ("http://127.0.0.1:8765/.well-known/cb", "http://127.0.0.1:8765", ("127.0.0.1",), 8765, "/.well-known/cb"),
    ],
)
def test_a_loopback_redirect_uri_is_split(text: str, origin: str, hosts: tuple[str, ...], port: int, path: str) -> None:
    uri = RedirectURI.parse(text)
    assert (uri.text, uri.origin, uri.hosts, uri.port, uri.path) == (text, origin, hosts, port, path)
    assert uri.secure is text.startswith("https")


NOT_HERE = """
    http://0.0.0.0:8765/cb http://[::]:8765/cb http://192.168.1.10:8765/cb http://128.0.0.1:8765/cb
    http://localhost.example.com:8765/cb http://127.0.0.1.nip.io:8765/cb http://localhost.:8765/cb http://127.1:8765/cb
    http://2130706433:8765/cb http://0x7f000001/cb http://0177.0.0.1/cb http://[::ffff:127.0.0.1]:8765/cb
"""
NOT_A_URL = "http://[::1:8765/cb http://127.0.0.1:65536/cb http://127.0.0.1:-1/cb http://127.0.0.1:8_765/cb"
NOT_AS_BROWSERS = """
    callback 127.0.0.1:8765/cb //127.0.0.1:8765/cb ftp://127.0.0.1/cb javascript:alert(1) http:///cb
    http://[::1%25lo]:8765/cb http://127.0.0.1:8765/cb#fragment http://127.0.0.1:8765/cb# http://me:pw@127.0.0.1:8765/cb
    http://127.0.0.1:8765/\x7f http://127.0.0.1:8765/<b> http://127.0.0.1:8765/コールバック http://127.0.0.1:8765/a/../cb
    http://127.0.0.1:8765/a/%2E%2e/cb http://127.0.0.1:8765/./cb http://127.0.0.1:8765/\udcff
"""


@pytest.mark.parametrize(
    ("text", "why"),
    [
        *((text, "is not on this machine") for text in NOT_HERE.split()),
        *((text, "is not a valid URL") for text in NOT_A_URL.split()),
        *((text, "browsers use") for text in [*NOT_AS_BROWSERS.split(), "", "ftp://" + "x" * 100_000]),
        *((text, "browsers use") for text in ("http://127.0.0.1/a b", "http://127.0.0.1/cb\n", "\thttp://127.0.0.1/")),
        *((text, "not") for text in ("http://127.0.0.1:8765\\@example.com/", "http://127.0.0.1:８７６５/")),
        ("http://127.0.0.1:0/callback", "has port 0"),
    ],
)
def test_another_redirect_uri_is_refused_with_the_reason(text: str, why: str) -> None:
    with pytest.raises(ConfigurationError, match=why) as caught:
        RedirectURI.parse(text)
    assert caught.value.setting == "WEBEX_REDIRECT_URI"
    assert "WEBEX_REDIRECT_URI" in caught.value.remedy
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 400


@settings(deadline=None)
@given(st.text(max_size=60) | st.builds("http://{}:{}{}".format, st.text(max_size=20), st.text(max_size=6), st.text()))
def test_any_text_is_a_redirect_uri_or_a_configuration_error(text: str) -> None:
    said = ""
    try:
        assert RedirectURI.parse(text).text == text
    except ConfigurationError as error:
        said = str(error)
    assert said.isprintable()
