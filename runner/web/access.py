"""What lets somebody in: the token that a person knows, and the host names that mean us."""

import ipaddress
import secrets
import socket
from dataclasses import dataclass, field
from hmac import compare_digest
from http.cookies import CookieError, SimpleCookie
from typing import Self
from urllib.parse import urlsplit

from runner.config import LOOPBACK_HOSTS, is_loopback

_HERE = frozenset(LOOPBACK_HOSTS)


def _secret() -> str:
    return secrets.token_urlsafe(24)


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """The secrets of one process and the names it answers to; all but the token is made anew."""

    token: str = field(default_factory=_secret, repr=False)
    session: str = field(default_factory=_secret, repr=False)  # what the cookie carries
    csrf: str = field(default_factory=_secret, repr=False)  # what our own forms carry
    cookie: str = "runner_web"
    hosts: frozenset[str] = _HERE

    @classmethod
    def to(cls, host: str, port: int, *, token: str | None) -> Self:
        """Access to what listens there; without a token, one is made up."""
        return cls(
            token=token or _secret(),
            # cookies know no ports: two dashboards of one machine must not sign each other out
            cookie=f"runner_web_{port}",
            hosts=_HERE if is_loopback(host) else _HERE | _names_of(host),
        )

    def is_token(self, given: str) -> bool:
        """Whether this is the token; how long it takes does not tell."""
        return _same(given, self.token)

    def is_own_form(self, csrf: str) -> bool:
        """Whether a form came from a page of this process."""
        return _same(csrf, self.csrf)

    def is_signed_in(self, *, cookies: str, authorization: str) -> bool:
        """Whether these headers show the cookie, or the token as a bearer's."""
        scheme, _, given = authorization.partition(" ")
        if scheme.lower() == "bearer" and self.is_token(given.strip()):
            return True
        try:
            found = SimpleCookie(cookies).get(self.cookie)
        except CookieError:
            return False
        return found is not None and _same(found.value, self.session)

    def is_own_host(self, host: str) -> bool:
        """Whether a Host header means us; the port may be that of a tunnel.

        A name of somebody else's could be bent to this machine, a bare address could not.
        """
        name = _name_in(host)
        if name is None or name in self.hosts:
            return name is not None
        return self.hosts > _HERE and _is_address(name)


LOGIN, STATIC = "/login", "/static/"


def is_for_strangers(path: str) -> bool:
    """Whether a page is answered to who has not signed in."""
    return path == LOGIN or path.startswith(STATIC)


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _names_of(host: str) -> frozenset[str]:
    names = (host, socket.gethostname(), socket.getfqdn())
    return frozenset(name.lower() for name in names)


def _name_in(host: str) -> str | None:
    """The name in a Host header, its port aside; None when it is none."""
    try:
        parts = urlsplit(f"//{host}")
        is_clean = parts.username is None and parts.port != 0
    except ValueError:
        return None
    return parts.hostname if is_clean and parts.netloc == host else None


def _same(given: str, secret: str) -> bool:
    return compare_digest(given.encode("utf-8", "surrogatepass"), secret.encode())
