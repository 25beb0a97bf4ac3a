"""Who is asked with which key: the lanes that limits, breakers and pauses belong to.

A lane is one model at one base URL with one key. Keys themselves appear nowhere: an id is a hash.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from runner.config import Settings
from runner.keys import key_id, lane_id

SIMULATOR = "the simulator"
LOCAL_MODEL = "the offline model"


@dataclass(frozen=True, slots=True, kw_only=True)
class Lane:
    """One model at one base URL with one key; `key_id` is shared by all models of that key."""

    id: str
    key_id: str
    model: str  # its name in runner.toml
    server: str  # host, or what the runner starts by itself
    key_name: str | None  # the environment variable that holds the key

    @property
    def is_simulator(self) -> bool:
        """Whether its answers are made up."""
        return self.server == SIMULATOR

    @property
    def key_words(self) -> str:
        """The key as a person knows it."""
        return self.server if self.key_name is None else f"{self.key_name} at {self.server}"


class Lanes:
    """The lane of every model under one set of settings."""

    def __init__(self, settings: Settings, *, env: Mapping[str, str] = os.environ) -> None:
        self._settings = settings
        self._env = env
        self._known: dict[tuple[str, bool], Lane] = {}

    def of(self, model: str, *, simulated: bool = False) -> Lane:
        """The lane of a model; raises ConfigError when its base URL is no safe address."""
        lane = self._known.get((model, simulated))
        if lane is None:
            lane = self._known[model, simulated] = self._look_up(model, simulated=simulated)
        return lane

    def _look_up(self, model: str, *, simulated: bool) -> Lane:
        of_model = self._settings.model(model)
        if simulated:
            return _lane(model, url=SIMULATOR, server=SIMULATOR, key_name=None, key="")
        if of_model.server == "local":
            return _lane(model, url=LOCAL_MODEL, server=LOCAL_MODEL, key_name=None, key="")
        url = self._settings.base_url(model)
        key_name = of_model.api_key_env
        return _lane(
            model,
            url=url,
            server=urlsplit(url).netloc.rpartition("@")[2],
            key_name=key_name,
            key=self._env.get(key_name, ""),
        )


def _lane(model: str, *, url: str, server: str, key_name: str | None, key: str) -> Lane:
    return Lane(
        id=lane_id(url=url, key=key, model=model),
        key_id=key_id(url=url, key=key),
        model=model,
        server=server,
        key_name=key_name,
    )
