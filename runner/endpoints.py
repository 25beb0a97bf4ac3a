"""Knows who serves a model now, and starts the servers of this home that are needed for it."""

import asyncio
import os
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path

from runner.config import Settings
from runner.provider import OpenAIProvider, Provider
from runner.servers.local_model import use_local_model
from runner.servers.resident import Resident
from runner.servers.simulator import use_simulator
from runner.servers.valkey import use_valkey
from runner.stream import Stream

CHECK_EVERY_S = 5.0  # whether a server of this home still answers

_Use = Callable[[Path], AbstractContextManager[Resident]]


class Endpoints:
    """The servers that one process uses; those of the home stop when their last user has left.

    `stream` hears the answer of this process's one call as it comes.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        env: Mapping[str, str] = os.environ,
        monotonic: Callable[[], float] = time.monotonic,
        stream: Stream | None = None,
    ) -> None:
        self._settings = settings
        self._env = env
        self._in_use = ExitStack()
        self._residents: dict[str, Resident] = {}
        self._starting = asyncio.Lock()
        self._stream = stream
        self._remote = OpenAIProvider(settings, env=env, stream=stream)
        self._own: dict[str, tuple[OpenAIProvider, str]] = {}
        self._left: list[OpenAIProvider] = []
        self._checked_s: dict[str, float] = {}
        self._monotonic = monotonic

    async def redis_url(self) -> str:
        """Where Redis is; the embedded one is started when it does not run.

        Raises RoadError when it cannot be started.
        """
        if self._settings.redis_url is not None:
            return self._settings.redis_url
        return await self._url("valkey", use_valkey)

    async def provider_for(self, model: str, *, simulated: bool) -> Provider:
        """The provider of a model; `simulated` sends the call to the simulator instead.

        Raises ConfigError when the model cannot be called, RoadError when its server won't start.
        """
        if simulated:
            return await self._own_provider("simulator", use_simulator, model)
        if self._settings.model(model).server == "local":
            return await self._own_provider("local-model", use_local_model, model)
        self._remote.check(model)
        return self._remote

    async def aclose(self) -> None:
        """Close connections and leave the servers."""
        for provider in (self._remote, *(own for own, _ in self._own.values()), *self._left):
            await provider.aclose()
        self._in_use.close()

    async def _own_provider(self, name: str, use: _Use, model: str) -> Provider:
        key = f"{name}:{model}"
        checked_s = self._checked_s.get(name)
        if checked_s is None or self._monotonic() - checked_s >= CHECK_EVERY_S:
            await self._url(name, use)
            self._checked_s[name] = self._monotonic()
        url = self._residents[name].url
        provider, known_url = self._own.get(key, (None, ""))
        if provider is None or known_url != url:
            # a server that was started again listens elsewhere; calls on the old one may still run
            if provider is not None:
                self._left.append(provider)
            provider = OpenAIProvider(
                self._settings, env={}, base_urls={model: url}, stream=self._stream
            )
            self._own[key] = (provider, url)
        return provider

    async def _url(self, name: str, use: _Use) -> str:
        async with self._starting:
            if name in self._residents:
                return await asyncio.to_thread(self._residents[name].ensure)
            resident = await asyncio.to_thread(
                lambda: self._in_use.enter_context(use(self._settings.home))
            )
            self._residents[name] = resident
            return resident.url
