"""Settings: what is refused, and that a key travels over https or loopback only."""

from pathlib import Path

import pytest

from runner.config import Settings
from runner.errors import ConfigError


@pytest.mark.parametrize(
    "url",
    [
        "http://example.com/v1",
        "ftp://127.0.0.1/v1",
        "http://127.0.0.1:http://example.com/v1",
        "http://127.0.0.1.example.com/v1",
        "http://127.0.0.1@example.com/v1",
        "https://",
        "127.0.0.1:8000/v1",
        "",
    ],
)
def test_a_key_never_travels_in_the_clear(url: str) -> None:
    settings = Settings(home=Path("home"), default_base_url=url)
    with pytest.raises(ConfigError, match="only ever sent over https or loopback"):
        settings.base_url("gpt-5")


@pytest.mark.parametrize("url", ["https://example.com/v1", "http://[::1]:8000/v1"])
def test_https_and_loopback_are_served(url: str) -> None:
    assert Settings(home=Path("home"), default_base_url=url).base_url("gpt-5") == url


def test_an_unknown_setting_is_refused_by_file_and_key(tmp_path: Path) -> None:
    path = tmp_path / "runner.toml"
    path.write_text('[models."a"]\nrmp = 5\n', encoding="utf-8")
    with pytest.raises(ConfigError, match=r"runner\.toml: models\.a\.rmp"):
        Settings.load(env={"RUNNER_CONFIG": str(path)})


def test_the_window_of_a_limit_is_a_minute_unless_it_is_told(tmp_path: Path) -> None:
    path = tmp_path / "runner.toml"
    path.write_text("[models.a]\n[models.b]\nwindow_s = 10\n", encoding="utf-8")
    settings = Settings.load(env={"RUNNER_CONFIG": str(path)})
    assert (settings.model("a").window_s, settings.model("b").window_s) == (60.0, 10.0)
    path.write_text("[models.b]\nwindow_s = 0.5\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"models\.b\.window_s"):
        Settings.load(env={"RUNNER_CONFIG": str(path)})


def test_the_share_of_an_audit_is_the_jobs_own_or_the_general_one(tmp_path: Path) -> None:
    path = tmp_path / "runner.toml"
    path.write_text("[review]\naudit_percent = 2.5\n", encoding="utf-8")
    settings = Settings.load(env={"RUNNER_CONFIG": str(path)})
    assert [settings.audit_percent(own) for own in (None, 0.0, 10.0)] == [2.5, 0.0, 10.0]
    assert Settings(home=tmp_path).audit_percent(None) == 0.0
    path.write_text("[review]\naudit_percent = 101\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"review\.audit_percent"):
        Settings.load(env={"RUNNER_CONFIG": str(path)})


def test_a_config_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="does not exist"):
        Settings.load(env={"RUNNER_CONFIG": str(tmp_path / "none.toml")})


def test_a_job_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="RUNNER_JOBS"):
        Settings.load(env={"RUNNER_JOBS": str(tmp_path / "none")})
