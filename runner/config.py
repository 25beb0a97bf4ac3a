"""Settings: runner.toml and the environment, read once, typed and bounded, never a secret."""

import ipaddress
import os
import shlex
import tomllib
from collections.abc import Mapping
from datetime import time
from pathlib import Path
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from runner.errors import ConfigError

OPENAI_BASE_URL = "https://api.openai.com/v1"
LOOPBACK_HOSTS = ("127.0.0.1", "localhost", "::1")


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches what listens there."""
    if host in LOOPBACK_HOSTS:
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class ModelSettings(BaseModel):
    """One `[models."NAME"]` table of runner.toml: where a model is served, its limits and prices.

    Prices are US dollars per million tokens and override the offline price list. `server = "local"`
    means the offline model that the runner starts by itself; it needs no `base_url` and no key.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    base_url: str | None = None
    api_key_env: str = "OPENAI_API_KEY"
    api_model: str | None = None  # the name sent to the provider; the table's name when absent
    server: Literal["local"] | None = None
    rpm: int | None = Field(default=None, ge=1)
    tpm: int | None = Field(default=None, ge=1)
    window_s: float = Field(default=60.0, ge=1, le=3600)  # the provider's own rolling window
    max_concurrency: int | None = Field(default=None, ge=1)
    timeout_s: float = Field(default=120.0, gt=0, le=3600)
    omit_parameters: tuple[str, ...] = ()  # of the prompt, that this model refuses
    structured_output: Literal["json_schema", "json_object", "none"] = "json_schema"
    context_tokens: int | None = Field(default=None, ge=1)
    max_output_tokens: int | None = Field(default=None, ge=1)  # at most, whatever the job allows
    input_usd_per_mtok: float | None = Field(default=None, ge=0)
    cached_usd_per_mtok: float | None = Field(default=None, ge=0)
    output_usd_per_mtok: float | None = Field(default=None, ge=0)


Usd = Annotated[float, Field(gt=0, le=1_000_000_000, allow_inf_nan=False)]


class BudgetSettings(BaseModel):
    """The `[budget]` table of runner.toml: limits in US dollars that hold for every batch.

    `day_usd` is the most that all batches together may spend on one UTC day, simulated ones aside.
    `document_usd` is the ceiling of a document whose job sets none of its own.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    day_usd: Usd | None = None
    document_usd: Usd | None = None


class AlertSettings(BaseModel):
    """The `[alerts]` table of runner.toml.

    `command` is started without a shell for each alert, which it reads as one line of JSON on its
    standard input. `webhook_url` (https, or on this machine) gets the same line by POST.
    `oldest_age_s` is how long a document may wait, and `dead_percent` which share of a day's
    documents of a job may end dead, before that is an alert.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    command: str | None = None
    webhook_url: str | None = None
    oldest_age_s: float = Field(default=86_400.0, gt=0, allow_inf_nan=False)
    dead_percent: float = Field(default=10.0, gt=0, le=100, allow_inf_nan=False)

    @field_validator("webhook_url")
    @classmethod
    def _is_a_safe_address(cls, url: str | None) -> str | None:
        if url is not None and not _is_safe(url):
            raise ValueError("is no https address, nor an http one on this machine")
        return url

    @field_validator("command")
    @classmethod
    def _can_be_started(cls, command: str | None) -> str | None:
        if command is not None and not shlex.split(command):
            raise ValueError("is empty: name a program, or leave the setting out")
        return command


class ReviewSettings(BaseModel):
    """The `[review]` table of runner.toml.

    `audit_percent` is the share of done documents that wait for a person's look all the same, drawn
    at random, of every job that sets none of its own.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    audit_percent: float = Field(default=0.0, ge=0, le=100, allow_inf_nan=False)


class EvalSettings(BaseModel):
    """The `[eval]` table of runner.toml.

    The live prompt of each job in `nightly` is evaluated once a night, at `at` (UTC), by a worker
    that runs as a service; one evaluation spends at most `budget_usd`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    nightly: tuple[str, ...] = ()
    at: time = time(3)
    budget_usd: Usd | None = None

    @field_validator("at")
    @classmethod
    def _is_of_utc(cls, at: time) -> time:
        if at.tzinfo is not None:
            raise ValueError("is a time of UTC such as 03:00, without a zone")
        return at


class _File(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    models: dict[str, ModelSettings] = Field(default_factory=dict)
    budget: BudgetSettings = BudgetSettings()
    alerts: AlertSettings = AlertSettings()
    review: ReviewSettings = ReviewSettings()
    eval: EvalSettings = EvalSettings()


class Settings(BaseModel):
    """Everything a process needs to know before it starts; it says where keys are, never a key."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    home: Path
    redis_url: str | None = None  # None: the embedded server of this home
    ledger_url: str | None = None  # None: SQLite in this home
    default_base_url: str = OPENAI_BASE_URL
    job_folders: tuple[Path, ...] = ()
    models: dict[str, ModelSettings] = Field(default_factory=dict)
    budget: BudgetSettings = BudgetSettings()
    alerts: AlertSettings = AlertSettings()
    review: ReviewSettings = ReviewSettings()
    eval: EvalSettings = EvalSettings()

    @classmethod
    def load(cls, *, env: Mapping[str, str] = os.environ, config: Path | None = None) -> Self:
        """Read the environment and runner.toml (`config`, else RUNNER_CONFIG, else ./runner.toml).

        Raises ConfigError naming the file and the key when a setting is unknown or out of bounds.
        """
        path = _config_path(env, config)
        file = _read_file(path) if path else _File()
        return cls(
            home=Path(env.get("RUNNER_HOME") or ".runner").absolute(),
            redis_url=env.get("RUNNER_REDIS_URL") or None,
            ledger_url=env.get("RUNNER_LEDGER_URL") or None,
            default_base_url=env.get("OPENAI_BASE_URL") or OPENAI_BASE_URL,
            job_folders=_job_folders(env),
            models=file.models,
            budget=file.budget,
            alerts=file.alerts,
            review=file.review,
            eval=file.eval,
        )

    def model(self, name: str) -> ModelSettings:
        """The settings of one model; a name that runner.toml does not list has the defaults."""
        return self.models.get(name) or ModelSettings()

    def base_url(self, name: str) -> str:
        """Where a model's requests go.

        Raises ConfigError for plain http off this machine: a key would travel in the clear.
        """
        url = self.model(name).base_url or self.default_base_url
        if _is_safe(url):
            return url
        raise ConfigError(
            f"model {name}: base URL {url!r} is no https address, nor one on this machine; "
            "the API key is only ever sent over https or loopback: mend base_url in runner.toml "
            "or OPENAI_BASE_URL"
        )

    def audit_percent(self, own: float | None) -> float:
        """The share of a job's done documents that a person looks at; `own` is the job's."""
        return self.review.audit_percent if own is None else own

    @property
    def ledger_path(self) -> Path:
        """The SQLite file of this home."""
        return self.home / "ledger.db"


def _is_safe(url: str) -> bool:
    parts = urlsplit(url)
    try:
        host = parts.hostname if parts.port != 0 else None
    except ValueError:  # what stands for a port is none
        return False
    if not host:
        return False
    return parts.scheme == "https" or (parts.scheme == "http" and host in LOOPBACK_HOSTS)


def _config_path(env: Mapping[str, str], config: Path | None) -> Path | None:
    named = config or (Path(env["RUNNER_CONFIG"]) if env.get("RUNNER_CONFIG") else None)
    if named is not None:
        if not named.exists() or named.is_dir():
            raise ConfigError(f"config file {named} does not exist; mend --config or RUNNER_CONFIG")
        return named.absolute()
    default = Path("runner.toml")
    return default.absolute() if default.is_file() else None


def _job_folders(env: Mapping[str, str]) -> tuple[Path, ...]:
    listed = [
        Path(part).absolute() for part in env.get("RUNNER_JOBS", "").split(os.pathsep) if part
    ]
    for folder in listed:
        if not folder.is_dir():
            raise ConfigError(f"RUNNER_JOBS names {folder}, which is not a folder")
    return tuple(listed)


def _read_file(path: Path) -> _File:
    try:
        return _File.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: not valid TOML: {error}") from error
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}" for problem in error.errors()
        )
        raise ConfigError(f"{path}: {problems}") from error
