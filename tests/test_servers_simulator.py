"""The simulated provider as a shared server of a home, told apart by its arguments."""

from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlsplit

from runner.servers.simulator import simulator, use_simulator


def status_of(url: str, body: str) -> int:
    connection = HTTPConnection(urlsplit(url).netloc, timeout=100)
    try:
        headers = {"Content-Type": "application/json", "Authorization": "Bearer any"}
        connection.request("POST", f"{urlsplit(url).path}/chat/completions", body, headers)
        return connection.getresponse().status
    finally:
        connection.close()


def test_equal_arguments_share_a_simulator_and_others_have_their_own(tmp_path: Path) -> None:
    with (
        use_simulator(tmp_path) as plain,
        use_simulator(tmp_path) as again,
        use_simulator(tmp_path, "--latency-ms", "1") as quick,
    ):
        assert plain.url == again.url != quick.url
        for resident in (plain, quick):
            assert resident.url.startswith("http://127.0.0.1:")
            assert status_of(resident.url, "not a request") == 400


def test_a_simulator_is_named_by_its_arguments_as_a_whole() -> None:
    names = {simulator(*arguments).name for arguments in ((), ("a", "b"), ("ab",), ("a b",))}
    assert len(names) == 4
    assert simulator("a", "b").name == simulator("a", "b").name
