"""What `doctor` checks of jobs and models: loads, locks, schemas, keys, prices, reachable."""

import asyncio
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from http.client import HTTPException
from typing import Any
from urllib.parse import urlsplit

from runner.cli.checks import verdict
from runner.cli.shapes.home import CheckShape
from runner.config import LOOPBACK_HOSTS, Settings
from runner.errors import ConfigError, JobError
from runner.jsonschema import strict_schema
from runner.prices import PriceList
from runner.promptlock import verify_lock
from runner.provider import OpenAIProvider
from runner.registry import job_names, load_job
from runner.servers.local_model import model_file

ONLINE_TIMEOUT_S = 10.0


def jobs(settings: Settings) -> Iterator[CheckShape]:
    """Whether each job loads, its schema can be sent in strict form, and its prompts are locked."""
    names = job_names(folders=settings.job_folders)
    if not names:
        yield verdict("jobs", "warn", "none found: `runner new NAME` makes one")
    for name in names:
        try:
            loaded = load_job(name, folders=settings.job_folders)
            schema = strict_schema(loaded.job.schema)
        except JobError as error:
            yield verdict(f"job {name}", "fail", str(error))
            continue
        problems = verify_lock(loaded.folder, models=loaded.job.models, schema=schema)
        if problems:
            yield verdict(f"job {name}", "fail", "; ".join(problems))
        else:
            yield verdict(f"job {name}", "ok", "loads, schema accepted, prompts as locked")


def models(settings: Settings, *, env: Mapping[str, str], online: bool) -> Iterator[CheckShape]:
    """Whether each model of a job or of runner.toml has an address, a key and a price."""
    provider = OpenAIProvider(settings, env=env)
    prices = PriceList(settings)
    for name in _model_names(settings):
        if settings.model(name).server == "local":
            yield _local(name)
            continue
        address = _address(settings, provider, name)
        yield address
        yield _price(prices, name, day_usd=settings.budget.day_usd)
        if online and address.verdict == "ok":
            yield _reach(settings, name, env)
    asyncio.run(provider.aclose())


def _model_names(settings: Settings) -> list[str]:
    names = set(settings.models)
    for name in job_names(folders=settings.job_folders):
        try:
            names.update(load_job(name, folders=settings.job_folders).job.models)
        except JobError:
            continue  # `jobs` has said so
    return sorted(names)


def _local(name: str) -> CheckShape:
    try:
        model_file()
    except ConfigError as error:
        return verdict(f"model {name}", "fail", str(error))
    return verdict(f"model {name}", "ok", "the offline model; free, no key")


def _address(settings: Settings, provider: OpenAIProvider, name: str) -> CheckShape:
    try:
        provider.check(name)
    except ConfigError as error:
        why = str(error).removeprefix(f"model {name}: ")
        return verdict(f"model {name}", "fail", f"{why} (--simulate needs none of it)")
    return verdict(f"model {name}", "ok", f"{settings.base_url(name)}, key as needed")


def _price(prices: PriceList, name: str, *, day_usd: float | None) -> CheckShape:
    try:
        price = prices.price(name)
    except ConfigError as error:
        return verdict(f"price {name}", "fail", str(error))
    if price is None:
        found = "unknown: costs will be null and a budget is refused"
        if day_usd is not None:
            found = (
                "unknown, and day_usd under [budget] needs it: batches of this model are refused"
            )
        return verdict(
            f"price {name}",
            "warn" if day_usd is None else "fail",
            f'{found}; set input_usd_per_mtok and output_usd_per_mtok under [models."{name}"]',
        )
    return verdict(f"price {name}", "ok", price.source)


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirect is an answer, not a place to send the key to."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        """Follow nothing."""


def _reach(settings: Settings, name: str, env: Mapping[str, str]) -> CheckShape:
    """Ask for the provider's list of models; https or this machine only, as `base_url` promises."""
    url = settings.base_url(name).rstrip("/") + "/models"
    request = urllib.request.Request(url)  # noqa: S310 - Settings.base_url allows https and loopback
    key = env.get(settings.model(name).api_key_env, "").strip()
    if key:
        request.add_unredirected_header("Authorization", f"Bearer {key}")
    try:
        with _opener(url).open(request, timeout=ONLINE_TIMEOUT_S) as answer:
            return verdict(f"reach {name}", "ok", f"{url} answers {answer.status}")
    except urllib.error.HTTPError as error:
        with error:
            return verdict(f"reach {name}", "fail", f"{url} answers {error.code} {_hint(error)}")
    except (OSError, ValueError, HTTPException) as error:
        return verdict(f"reach {name}", "fail", f"{url}: {type(error).__name__}: {error}")


def _opener(url: str) -> urllib.request.OpenerDirector:
    # what is on this machine is asked directly: a proxy would see the key in the clear
    direct = [urllib.request.ProxyHandler({})] if urlsplit(url).hostname in LOOPBACK_HOSTS else []
    return urllib.request.build_opener(_NoRedirect, *direct)


def _hint(error: urllib.error.HTTPError) -> str:
    if error.code == 401:  # noqa: PLR2004 - HTTP's Unauthorized
        return "(the key is not accepted)"
    return f"({error.reason})"
