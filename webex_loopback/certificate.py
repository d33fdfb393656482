"""The certificate of an https redirect URI: the user's own, or a self-signed one that is kept and renewed."""

import ipaddress
import os
import ssl
import stat
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, TypedDict

from .errors import ConfigurationError, TokenStoreError

if TYPE_CHECKING:
    from cryptography.x509 import Certificate

FILE = "loopback.pem"  # key and certificate in one file, so that os.replace changes both at once
HOSTS = ("localhost", "127.0.0.1", "::1")

_DAY = 86_400  # seconds
_LIFETIME = 363 * _DAY  # browsers accept 398 days
_RENEWAL = 30 * _DAY  # before the end
_CLOCK_SKEW = _DAY  # a browser on another machine (WSL, ssh -L) may be behind


class Description(TypedDict):
    """What `doctor` shows of the certificate that a login would serve."""

    path: str
    names: list[str]
    not_after: float | None  # epoch seconds; None: there is none yet
    self_signed: bool
    private: bool  # whether nobody else may read the key
    problem: str  # why it cannot be used, or ""


def server_context(
    *, folder: str, cert: str = "", key: str = "", hosts: Sequence[str] = HOSTS, now: float | None = None
) -> ssl.SSLContext:
    """Return the TLS settings of the loopback server for these hosts.

    With `cert` and `key` (paths of PEM files) those are served. Otherwise a self-signed certificate is, which is
    kept in `folder` for up to a year: the browser's warning is to be accepted once, not at every login.

    Raises:
        ConfigurationError: `cert` and `key` are not usable for these hosts.
        TokenStoreError: The self-signed certificate cannot be written.
    """
    now = time.time() if now is None else now
    if cert or key:
        cert, key = _check_own(cert, key, hosts, now)
        try:
            return _load(cert, key)
        except OSError as error:  # ssl.SSLError is one
            reason = getattr(error, "reason", None) or error
            raise _unusable("WEBEX_TLS_CERT", cert, f"is refused by OpenSSL: {reason}") from error
    path, names = os.path.join(folder, FILE), _names(hosts)
    if _is_kept(path, names, now):
        try:
            return _load(path)
        except OSError:
            # OpenSSL opens the file twice: another process has replaced it in between.
            pass
    try:
        return _create(folder, names, now)
    except OSError as error:
        raise TokenStoreError(
            f"The certificate of the loopback server cannot be written to {path}: {error.strerror}.",
            problem="unwritable",
            remedy="Make the folder writable, or set WEBEX_TLS_CERT and WEBEX_TLS_KEY, "
            "or register a redirect URI that begins with http://127.0.0.1.",
        ) from error


def describe(
    *, folder: str, cert: str = "", key: str = "", hosts: Sequence[str] = HOSTS, now: float | None = None
) -> Description:
    """Describe what `server_context` would serve, without making or changing a file."""
    now = time.time() if now is None else now
    own = bool(cert or key)
    path = os.path.expanduser(cert) if own else os.path.join(folder, FILE)
    found = Description(
        path=path,
        names=[],
        not_after=None,
        self_signed=not own,
        private=key_is_private(os.path.expanduser(key) if own else path),
        problem="",
    )
    try:
        certificate = _certificate(_read(path))
        found["names"], found["not_after"] = _names_of(certificate), _not_after(certificate)
        if own:
            _check_own(cert, key, hosts, now)
        elif not _is_kept(path, _names(hosts), now):
            found["problem"] = "the next login makes a new one"
    except FileNotFoundError:
        found["problem"] = "there is no such file" if own else ""
    except (OSError, ValueError, ConfigurationError) as error:
        found["problem"] = str(error)
    return found


def key_is_private(path: str) -> bool:
    """Whether `path` is a file of this user's that nobody else may read or write; True where there is none."""
    try:
        status = os.stat(path)
    except OSError:
        return True
    if not hasattr(os, "getuid"):  # pragma: no cover - needs Windows, whose profile folders are private
        return stat.S_ISREG(status.st_mode)
    return stat.S_ISREG(status.st_mode) and status.st_uid == os.getuid() and not status.st_mode & 0o077


def _load(cert: str, key: str | None = None) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    # Without a password OpenSSL would ask for one on the terminal.
    context.load_cert_chain(cert, key, password="")
    return context


def _names(hosts: Sequence[str]) -> list[str]:
    return list(dict.fromkeys((*HOSTS, *(_plain(host) for host in hosts))))


def _plain(host: str) -> str:
    try:
        return str(ipaddress.ip_address(host.strip("[]")))
    except ValueError:
        return host.lower()


def _read(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()


def _certificate(pem: bytes) -> "Certificate":
    from cryptography import x509

    return x509.load_pem_x509_certificate(pem)


def _names_of(certificate: "Certificate") -> list[str]:
    from cryptography import x509

    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []  # browsers do not look at the common name
    return [
        *(name.lower() for name in names.get_values_for_type(x509.DNSName)),
        *(str(address) for address in names.get_values_for_type(x509.IPAddress)),
    ]


def _not_before(certificate: "Certificate") -> float:
    return certificate.not_valid_before_utc.timestamp()


def _not_after(certificate: "Certificate") -> float:
    return certificate.not_valid_after_utc.timestamp()


def _is_pair(certificate: "Certificate", key_pem: bytes) -> bool:
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    return certificate.public_key() == load_pem_private_key(key_pem, password=None).public_key()


# The user's own certificate


def _check_own(cert: str, key: str, hosts: Sequence[str], now: float) -> tuple[str, str]:
    """Return both paths, expanded, or say which setting is wrong and how."""
    from cryptography.exceptions import UnsupportedAlgorithm

    if not cert or not key:
        missing, given = ("WEBEX_TLS_KEY", "WEBEX_TLS_CERT") if cert else ("WEBEX_TLS_CERT", "WEBEX_TLS_KEY")
        raise ConfigurationError(
            f"{given} is set, but {missing} is not.",
            setting=missing,
            remedy="Set both to PEM files, or neither for a self-signed certificate.",
        )
    cert, key = os.path.expanduser(cert), os.path.expanduser(key)
    try:
        certificate = _certificate(_read(cert))
        names = _names_of(certificate)
    except OSError as error:
        raise _unusable("WEBEX_TLS_CERT", cert, f"cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise _unusable("WEBEX_TLS_CERT", cert, "holds no usable PEM certificate") from error
    # The causes are not chained below: a parser's message is nothing to show where a key is concerned.
    try:
        paired = _is_pair(certificate, _read(key))
    except OSError as error:
        raise _unusable("WEBEX_TLS_KEY", key, f"cannot be read: {error.strerror}") from error
    except TypeError:
        raise _unusable("WEBEX_TLS_KEY", key, "is encrypted; a key without a passphrase is needed") from None
    except (ValueError, UnsupportedAlgorithm):
        raise _unusable("WEBEX_TLS_KEY", key, "holds no usable PEM private key") from None
    if not paired:
        raise _unusable("WEBEX_TLS_KEY", key, f"does not belong to the certificate {cert}")
    if now >= _not_after(certificate):
        raise _unusable("WEBEX_TLS_CERT", cert, f"expired on {_date(_not_after(certificate))}")
    if now < _not_before(certificate):
        raise _unusable("WEBEX_TLS_CERT", cert, f"is not valid before {_date(_not_before(certificate))}")
    for host in hosts:
        if _plain(host) not in names:
            listed = ", ".join(names) or "no name at all"
            raise _unusable("WEBEX_TLS_CERT", cert, f"is not valid for {_plain(host)}, only for {listed}")
    return cert, key


def _unusable(setting: str, path: str, what: str) -> ConfigurationError:
    return ConfigurationError(
        f"{setting}: {path} {what}.",
        setting=setting,
        remedy="Make a pair with `mkcert localhost 127.0.0.1 ::1` and set WEBEX_TLS_CERT and WEBEX_TLS_KEY to it, "
        "or remove both settings for a self-signed certificate.",
    )


def _date(moment: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(moment))


# The self-signed certificate


def _is_kept(path: str, names: list[str], now: float) -> bool:
    from cryptography.exceptions import UnsupportedAlgorithm

    if not key_is_private(path):
        return False  # a key that others could read is no secret any more; nor is a pipe to be waited for
    try:
        pem = _read(path)
        certificate = _certificate(pem)
        fits = _is_pair(certificate, pem) and set(_names_of(certificate)) == set(names)
    except (OSError, ValueError, TypeError, UnsupportedAlgorithm):
        return False
    return fits and _not_before(certificate) <= now < _not_after(certificate) - _RENEWAL


def _create(folder: str, names: list[str], now: float) -> ssl.SSLContext:
    """Write a new pair and load it before another process can put its own in this place."""
    import tempfile

    os.makedirs(folder, mode=0o700, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(dir=folder, prefix=".loopback-", suffix=".pem")  # 0600 from birth
    try:
        with open(descriptor, "wb") as file:
            os.chmod(temporary, 0o600)  # an odd umask may have taken more away
            file.write(_self_signed(names, now))
        context = _load(temporary)
        os.replace(temporary, os.path.join(folder, FILE))
    except BaseException:
        os.unlink(temporary)
        raise
    return context


def _self_signed(names: list[str], now: float) -> bytes:
    import datetime

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

    def general_name(name: str) -> x509.GeneralName:
        try:
            return x509.IPAddress(ipaddress.ip_address(name))
        except ValueError:
            return x509.DNSName(name)

    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name(
        [
            x509.NameAttribute(NameOID.COMMON_NAME, "localhost"),
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "webex-loopback on this machine"),
        ]
    )
    not_before = datetime.datetime.fromtimestamp(int(now) - _CLOCK_SKEW, datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        # Random: Firefox refuses a second certificate of the same issuer and serial number.
        .serial_number(x509.random_serial_number())
        .not_valid_before(not_before)
        .not_valid_after(not_before + datetime.timedelta(seconds=_LIFETIME))
        .add_extension(x509.SubjectAlternativeName([general_name(name) for name in names]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.KeyUsage(True, *[False] * 8), critical=True)  # digital_signature alone
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    ) + certificate.public_bytes(serialization.Encoding.PEM)
