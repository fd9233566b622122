# SPDX-License-Identifier: Apache-2.0
"""Certificates and passwords with which a process reaches servers and other processes of a cluster."""

import difflib
import ssl
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, TypeVar

from dynamo_llm.errors import InvalidConfigError

Variables = dict[str, str | None]
"""Environment variables; None for those that must not be set."""

_T = TypeVar("_T")


@dataclass(frozen=True)
class Etcd:
    """``tls.etcd``: certificates, or a name and a password. Dynamo sends one of the two."""

    ca: str = ""
    """File with the certificate, in PEM, that etcd's own is signed with."""
    cert: str = ""
    """File with this process's certificate; needed with ``ca``, also by an etcd that asks for none."""
    key: str = ""
    """File with its key, without a passphrase."""
    username: str = ""
    """Name of a user of etcd."""
    password: str = field(default="", repr=False)
    """The user's password."""

    def check(self, where: str) -> None:
        """:raises InvalidConfigError: something is missing, too much, or no such file."""
        _check_together(self, where, ("username", "password"))
        if self.ca or self.cert or self.key:
            _check_together(self, where, ("ca", "cert", "key"))
            if self.username:
                raise InvalidConfigError(
                    f'"{where}" of the configuration has certificates and a password, of which NVIDIA Dynamo '
                    f"sends only one: leave the password out, and give etcd a user with the certificate's "
                    f"common name"
                )
        _check_files(self, where)

    def variables(self) -> Variables:
        """What Dynamo is told; here it wants the texts in place of the files. With secrets."""
        return {
            "ETCD_AUTH_CA": _text(self.ca),
            "ETCD_AUTH_CLIENT_CERT": _text(self.cert),
            "ETCD_AUTH_CLIENT_KEY": _text(self.key),
            "ETCD_AUTH_USERNAME": self.username or None,
            "ETCD_AUTH_PASSWORD": self.password or None,
        }


@dataclass(frozen=True)
class Nats:
    """``tls.nats``: certificates, and one way to log in."""

    ca: str = ""
    """File with the certificate, in PEM, that the server's own is signed with."""
    cert: str = ""
    """File with this process's certificate, for a server that asks for one."""
    key: str = ""
    """File with its key, without a passphrase."""
    username: str = ""
    """Name of a user of NATS."""
    password: str = field(default="", repr=False)
    """The user's password."""
    token: str = field(default="", repr=False)
    """A token, in place of a user."""
    nkey: str = field(default="", repr=False)
    """The seed of an NKey, in place of a user."""
    credentials: str = ""
    """File with a JWT and its NKey, in place of a user."""

    def check(self, where: str) -> None:
        """:raises InvalidConfigError: something is missing, too much, or no such file."""
        _check_together(self, where, ("username", "password"))
        _check_together(self, where, ("cert", "key"))
        if self.cert and not self.ca:
            raise InvalidConfigError(f'"{where}.cert" of the configuration needs "{where}.ca"')
        ways = [name for name in ("username", "token", "nkey", "credentials") if getattr(self, name)]
        if len(ways) > 1:
            raise InvalidConfigError(
                f'"{where}" of the configuration has {" and ".join(ways)}; use one of them'
            )
        _check_files(self, where)

    def variables(self) -> Variables:
        """What Dynamo is told. With secrets."""
        return {
            "NATS_TLS_CA_CERT_PATH": self.ca or None,
            "NATS_TLS_CLIENT_CERT_PATH": self.cert or None,
            "NATS_TLS_CLIENT_KEY_PATH": self.key or None,
            "NATS_TLS_INSECURE": None,
            "NATS_AUTH_USERNAME": self.username or None,
            "NATS_AUTH_PASSWORD": self.password or None,
            "NATS_AUTH_TOKEN": self.token or None,
            "NATS_AUTH_NKEY": self.nkey or None,
            "NATS_AUTH_CREDENTIALS_FILE": self.credentials or None,
        }


@dataclass(frozen=True)
class RequestPlane:
    """``tls.request_plane``: requests and answers over TCP. Each process listens for some of them and
    connects for others, so each needs a certificate.
    """

    ca: str = ""
    """File with the certificate, in PEM, that those of all processes are signed with."""
    cert: str = ""
    """File with this process's certificate, for its address, or for ``server_name``."""
    key: str = ""
    """File with its key, without a passphrase."""
    mutual: bool = True
    """Whether who connects here must show a certificate, too."""
    server_name: str = ""
    """The name that is in all certificates, where it is not the address."""

    def check(self, where: str) -> None:
        """:raises InvalidConfigError: something is missing, or no such file."""
        _check_together(self, where, ("ca", "cert", "key"))
        if not self.ca:
            raise InvalidConfigError(f'"{where}" of the configuration needs "ca", "cert" and "key"')
        _check_files(self, where)

    def variables(self) -> Variables:
        """What Dynamo is told."""
        return {
            "DYN_TCP_TLS_CERT_PATH": self.cert,
            "DYN_TCP_TLS_KEY_PATH": self.key,
            "DYN_TCP_TLS_CA_CERT_PATH": self.ca,
            # Shown to everybody who asks for it, whether this process asks or not.
            "DYN_TCP_TLS_CLIENT_CERT_PATH": self.cert,
            "DYN_TCP_TLS_CLIENT_KEY_PATH": self.key,
            "DYN_TCP_TLS_CLIENT_CA_CERT_PATH": self.ca if self.mutual else None,
            "DYN_TCP_TLS_SERVER_NAME": self.server_name or None,
            "DYN_TCP_TLS_INSECURE": None,
        }


def check_keys(given: Mapping[str, Any], known: Iterable[str], where: str) -> None:
    """:raises InvalidConfigError: a key that is not known; the nearest known one is named."""
    known = list(known)
    for key in given:
        if key not in known:
            close = difflib.get_close_matches(key, known, n=1)
            hint = f'did you mean "{where}.{close[0]}"?' if close else "known: " + ", ".join(known)
            raise InvalidConfigError(f'unknown key "{where}.{key}" in the configuration; {hint}')


def read(kind: type[_T], given: Any, where: str) -> _T:
    """Make one of the classes above.

    :param kind: the class.
    :param given: the object of the configuration.
    :param where: its path in the configuration.
    :raises InvalidConfigError: something is wrong with it.
    """
    if not isinstance(given, Mapping):
        raise InvalidConfigError(f'"{where}" of the configuration must be an object')
    check_keys(given, [one.name for one in fields(kind)], where)  # type: ignore[arg-type]
    for one in fields(kind):  # type: ignore[arg-type]
        wanted = bool if one.type in (bool, "bool") else str
        if one.name in given and not isinstance(given[one.name], wanted):
            what = "true or false" if wanted is bool else "a string"
            raise InvalidConfigError(f'"{where}.{one.name}" of the configuration must be {what}')
    made: Any = kind(**given)
    made.check(where)
    return made  # type: ignore[no-any-return]


def _check_together(plane: Any, where: str, names: tuple[str, ...]) -> None:
    """All of them, or none."""
    missing = [name for name in names if not getattr(plane, name)]
    if missing and len(missing) < len(names):
        there = next(name for name in names if name not in missing)
        wanted = " and ".join(f'"{where}.{name}"' for name in missing)
        raise InvalidConfigError(f'"{where}.{there}" of the configuration needs {wanted}, too')


def _check_files(plane: Any, where: str) -> None:
    for name in ("ca", "cert", "key", "credentials"):
        if path := getattr(plane, name, ""):
            try:
                text = Path(path).read_text()
            except (OSError, ValueError) as error:
                reason = getattr(error, "strerror", None) or "it is no text"
                raise InvalidConfigError(
                    f'"{where}.{name}" of the configuration: cannot read "{path}": {reason}'
                ) from None
            if name == "key" and "ENCRYPTED" in text:
                raise InvalidConfigError(
                    f'"{where}.key" of the configuration: "{path}" has a passphrase; NVIDIA Dynamo needs it '
                    f"without"
                )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if plane.ca:
        try:
            context.load_verify_locations(plane.ca)
        except ssl.SSLError:
            raise InvalidConfigError(
                f'"{where}.ca" of the configuration: "{plane.ca}" has no certificate in PEM'
            ) from None
    if plane.cert:
        try:
            context.load_cert_chain(plane.cert, plane.key)
        except ssl.SSLError:
            raise InvalidConfigError(
                f'"{where}.cert" of the configuration: "{plane.cert}" is no certificate in PEM, or '
                f'"{plane.key}" is not its key'
            ) from None


def _text(path: str) -> str | None:
    return Path(path).read_text() if path else None
