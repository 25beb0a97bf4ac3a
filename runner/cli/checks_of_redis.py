"""What `doctor` checks of Redis: reachable, new enough, never evicting, keeping its data."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, cast
from urllib.parse import urlsplit

from redis import Redis
from redis.exceptions import RedisError

from runner.cli.checks import verdict
from runner.cli.shapes.home import CheckShape
from runner.config import Settings
from runner.errors import RoadError
from runner.servers.valkey import use_valkey

VERSION_MIN = (6, 2)
TIMEOUT_S = 5.0


def redis(settings: Settings) -> Iterator[CheckShape]:
    """Check the Redis of these settings; the embedded server is started for it when it is not."""
    try:
        with _url(settings) as url:
            client = Redis.from_url(url, socket_timeout=TIMEOUT_S, socket_connect_timeout=TIMEOUT_S)
            try:
                found = cast("Mapping[str, Any]", client.info())
            finally:
                client.close()
    except RoadError as error:
        yield verdict("redis", "fail", str(error))
    except (RedisError, OSError, ValueError) as error:
        yield verdict("redis", "fail", f"{_name(settings)}: {error}; mend RUNNER_REDIS_URL")
    else:
        yield _version(settings, found)
        yield _eviction(found)
        yield _persistence(found)


@contextmanager
def _url(settings: Settings) -> Iterator[str]:
    if settings.redis_url is not None:
        yield settings.redis_url
        return
    with use_valkey(settings.home) as server:
        yield server.url


def _name(settings: Settings) -> str:
    if settings.redis_url is None:
        return "embedded"
    # the URL may hold a password
    parts = urlsplit(settings.redis_url)
    return f"{parts.scheme}://{parts.hostname or parts.path}"


def _version(settings: Settings, found: Mapping[str, Any]) -> CheckShape:
    number = str(found.get("redis_version", "0"))
    words = f"{_name(settings)}, speaks as Redis {number}"
    if tuple(int(part) for part in number.split(".")[:2] if part.isdigit()) < VERSION_MIN:
        return verdict("redis", "fail", f"{words}: 6.2 or newer is needed")
    return verdict("redis", "ok", words)


def _eviction(found: Mapping[str, Any]) -> CheckShape:
    policy = found.get("maxmemory_policy", "unknown")
    if policy != "noeviction":
        return verdict(
            "redis eviction",
            "fail",
            f"maxmemory-policy is {policy}: it would drop ids unseen; "
            "CONFIG SET maxmemory-policy noeviction",
        )
    return verdict("redis eviction", "ok", "noeviction")


def _persistence(found: Mapping[str, Any]) -> CheckShape:
    if found.get("aof_enabled"):
        return verdict("redis persistence", "ok", "append-only file")
    return verdict(
        "redis persistence",
        "warn",
        "no append-only file: a restart of Redis is a delay of seconds, never a loss; "
        "CONFIG SET appendonly yes",
    )
