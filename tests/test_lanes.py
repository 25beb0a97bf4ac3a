"""Lanes: what shares a limit, and that a key shows nowhere."""

import pytest

from runner.config import ModelSettings, Settings
from runner.errors import ConfigError
from runner.lanes import Lanes

KEY = "sk-canary-0123456789"


def lanes_of(key: str = KEY, **models: ModelSettings) -> Lanes:
    settings = Settings.load(env={"RUNNER_CONFIG": "/dev/null"}).model_copy(
        update={"models": models}
    )
    return Lanes(settings, env={"OPENAI_API_KEY": key, "OTHER_KEY": "another"})


def test_two_models_of_one_key_are_two_lanes_that_share_their_key() -> None:
    lanes = lanes_of()
    small, large = lanes.of("small"), lanes.of("large")
    assert small.id != large.id
    assert small.key_id == large.key_id


def test_another_key_or_server_is_another_key() -> None:
    here = ModelSettings(base_url="http://127.0.0.1:9/v1")
    lanes = lanes_of(other=ModelSettings(api_key_env="OTHER_KEY"), here=here)
    assert len({lanes.of(name).key_id for name in ("m", "other", "here")}) == 3
    assert lanes_of("sk-changed").of("m").key_id != lanes.of("m").key_id


def test_the_simulator_and_the_offline_model_are_keys_of_their_own() -> None:
    lanes = lanes_of(local=ModelSettings(server="local"))
    assert lanes.of("m", simulated=True).key_id != lanes.of("m").key_id
    assert lanes.of("local").key_words == "the offline model"


def test_a_person_is_told_the_name_of_a_key_and_its_server_but_never_the_key() -> None:
    lane = lanes_of().of("m")
    assert lane.key_words == "OPENAI_API_KEY at api.openai.com"
    assert KEY not in repr(lane)


def test_a_password_in_a_base_url_is_not_shown() -> None:
    lane = lanes_of(m=ModelSettings(base_url="https://user:pass@example.org/v1")).of("m")
    assert lane.server == "example.org"


def test_an_unsafe_base_url_is_refused() -> None:
    with pytest.raises(ConfigError):
        lanes_of(m=ModelSettings(base_url="http://example.org/v1")).of("m")
