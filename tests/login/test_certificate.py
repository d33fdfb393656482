"""The certificate of an https redirect URI: created, kept, renewed, or the user's own."""

import contextlib
import datetime
import os
import ssl
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID

from tests.conftest import Patch, posix
from webex_loopback.errors import ConfigurationError
from webex_loopback.login import certificate

DAY = 86_400


@pytest.fixture
def folder(tmp_path: Path) -> str:
    return str(tmp_path / "data" / "webex-loopback")


def kept(folder: str) -> x509.Certificate:
    return x509.load_pem_x509_certificate(Path(folder, certificate.FILE).read_bytes())


def shake_hands(context: ssl.SSLContext, *, trust: str, name: str) -> tuple[str | None, str | None]:
    """Return ALPN protocol and TLS version of a strict client's handshake."""
    client = ssl.create_default_context(cafile=trust)
    client.verify_flags |= ssl.VerifyFlags.VERIFY_X509_STRICT
    client.set_alpn_protocols(["h2", "http/1.1"])
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [
        client.wrap_bio(to_client, to_server, server_hostname=name),
        context.wrap_bio(to_server, to_client, server_side=True),
    ]
    for _ in range(4):
        for end in ends:
            with contextlib.suppress(ssl.SSLWantReadError):
                end.do_handshake()
    return ends[0].selected_alpn_protocol(), ends[0].version()


@pytest.mark.parametrize("name", certificate.HOSTS)
def test_the_self_signed_certificate_is_valid_for_each_loopback_name(folder: str, name: str) -> None:
    context = certificate.server_context(folder=folder)
    trust = os.path.join(folder, certificate.FILE)
    assert shake_hands(context, trust=trust, name=name) == ("http/1.1", "TLSv1.3")
    assert context.minimum_version == ssl.TLSVersion.TLSv1_2


def test_the_self_signed_certificate_is_what_browsers_require(folder: str) -> None:
    now = time.time()
    certificate.server_context(folder=folder, now=now)
    made = kept(folder)
    extension = made.extensions.get_extension_for_class
    assert extension(x509.BasicConstraints).value.ca is False
    assert extension(x509.KeyUsage).value.digital_signature is True
    assert extension(x509.KeyUsage).value.key_cert_sign is False
    assert list(extension(x509.ExtendedKeyUsage).value) == [ExtendedKeyUsageOID.SERVER_AUTH]
    assert made.not_valid_before_utc.timestamp() == int(now) - DAY
    assert made.not_valid_after_utc - made.not_valid_before_utc == datetime.timedelta(days=363)
    assert isinstance(made.public_key(), ec.EllipticCurvePublicKey)


@pytest.mark.parametrize(("days", "renewed"), [(0, False), (331, False), (333, True), (-2, True)])
def test_it_is_kept_until_thirty_days_before_it_expires(folder: str, days: int, renewed: bool) -> None:
    now = time.time()
    certificate.server_context(folder=folder, now=now)
    first = kept(folder).serial_number
    certificate.server_context(folder=folder, now=now + days * DAY)
    assert (kept(folder).serial_number != first) == renewed


def mismatch(path: Path) -> None:
    key, mark, chain = path.read_text().partition("-----BEGIN CERTIFICATE")
    certificate.server_context(folder=str(path.parent / "other"))
    key = (path.parent / "other" / path.name).read_text().partition(mark)[0]
    path.write_text(key + mark + chain)


@posix
@pytest.mark.parametrize("spoil", [Path.unlink, mismatch, lambda p: p.write_text("garbage"), lambda p: p.chmod(0o644)])
def test_a_file_that_cannot_be_used_is_replaced(folder: str, spoil: Callable[[Path], None]) -> None:
    certificate.server_context(folder=folder)
    path, first = Path(folder, certificate.FILE), kept(folder).serial_number
    spoil(path)
    context = certificate.server_context(folder=folder)
    assert kept(folder).serial_number != first
    assert certificate.key_is_private(str(path))
    assert shake_hands(context, trust=str(path), name="localhost")


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """A folder with cert.pem, key.pem and ca.pem, as `mkcert` would write them."""
    authority = trustme.CA()
    issued = authority.issue_cert("localhost", "127.0.0.1")
    issued.cert_chain_pems[0].write_to_path(tmp_path / "cert.pem")
    issued.private_key_pem.write_to_path(tmp_path / "key.pem")
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    return tmp_path


def test_the_users_own_certificate_is_served(own: Path, folder: str, monkeypatch: Patch) -> None:
    for name in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(name, str(own))
    key, hosts = str(own / "key.pem"), ["127.0.0.1", "LOCALHOST"]
    context = certificate.server_context(folder=folder, cert="~/cert.pem", key=key, hosts=hosts)
    assert shake_hands(context, trust=str(own / "ca.pem"), name="127.0.0.1")[0] == "http/1.1"
    assert not os.path.exists(folder)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"key": ""}, "WEBEX_TLS_KEY is not"),
        ({"cert": ""}, "WEBEX_TLS_CERT is not"),
        ({"cert": __file__}, "PEM"),
        ({"key": __file__}, "must belong to the certificate"),
        ({"now": 0}, "not valid before 20"),
        ({"now": 4e10}, "expired on 3"),
        ({"hosts": ("localhost", "[::1]")}, "is valid for localhost, 127.0.0.1, not for ::1"),
    ],
)
def test_an_unusable_certificate_is_refused(own: Path, folder: str, changes: dict[str, Any], said: str) -> None:
    files = {"cert": str(own / "cert.pem"), "key": str(own / "key.pem")}
    arguments: dict[str, Any] = {"folder": folder, "hosts": ("127.0.0.1",), **files} | changes
    with pytest.raises(ConfigurationError, match=said) as caught:
        certificate.server_context(**arguments)
    assert (caught.value.setting or "").startswith("WEBEX_TLS_")
    assert certificate.describe(**arguments)["problem"]
    assert not os.path.exists(folder)


def test_describe_tells_what_is_kept(folder: str) -> None:
    now, path = time.time(), os.path.join(folder, certificate.FILE)
    nothing = certificate.describe(folder=folder)
    assert (nothing["path"], nothing["names"], nothing["not_after"], nothing["problem"]) == (path, [], None, "")
    assert not os.path.exists(folder)
    certificate.server_context(folder=folder, now=now)
    assert certificate.describe(folder=folder, now=now) == {
        "path": path,
        "names": ["localhost", "127.0.0.1", "::1"],
        "not_after": int(now) + 362 * DAY,
        "self_signed": True,
        "private": True,
        "problem": "",
    }
    assert "replace" in certificate.describe(folder=folder, now=now + 350 * DAY)["problem"]
    Path(path).write_text("garbage")
    assert certificate.describe(folder=folder)["problem"]
