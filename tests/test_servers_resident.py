"""Servers shared by the commands of a home: started once, stopped with the last, never orphaned."""

import fcntl
import json
import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from runner.errors import RoadError
from runner.servers import watchdog
from runner.servers.resident import (
    Resident,
    ServerKind,
    accepts_connections,
    locked,
    use,
    written_url,
)
from runner.servers.valkey import VALKEY, use_valkey

COMMAND = """
import sys, time
from pathlib import Path
from runner.servers.valkey import use_valkey
with use_valkey(Path(sys.argv[1])) as server:
    print(server.url, flush=True)
    sys.stdin.read()
"""


@contextmanager
def command_using(home: Path) -> Iterator["subprocess.Popen[str]"]:
    """A real command of its own process, in use of the home's server until its input ends."""
    with subprocess.Popen(
        [sys.executable, "-c", COMMAND, str(home)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as command:
        try:
            yield command
        finally:
            command.kill()


def first_line(command: "subprocess.Popen[str]") -> str:
    assert command.stdout is not None
    return command.stdout.readline().strip()


def server_process(home: Path) -> psutil.Process:
    return psutil.Process(json.loads((home / "redis" / "server.pid").read_text())["pid"])


def eventually(holds: Callable[[], bool], *, within_s: float) -> bool:
    deadline_s = time.monotonic() + within_s
    while time.monotonic() < deadline_s:
        if holds():
            return True
        time.sleep(0.05)
    return holds()


def ended(process: psutil.Process) -> bool:
    return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE


def test_a_server_stops_soon_after_its_last_user_left_and_not_before(tmp_path: Path) -> None:
    with use_valkey(tmp_path) as one:
        with use_valkey(tmp_path) as other:
            assert other.url == one.url
            server, guard = server_process(tmp_path), server_process(tmp_path).parent()
        time.sleep(3)
        assert not ended(server)
    assert guard is not None
    assert eventually(lambda: ended(server) and ended(guard), within_s=20)


def test_commands_that_start_at_one_instant_start_one_server(tmp_path: Path) -> None:
    with ExitStack() as stack:
        commands = [stack.enter_context(command_using(tmp_path)) for _ in range(4)]
        assert len({first_line(command) for command in commands}) == 1
        guard = server_process(tmp_path).parent()
        assert guard is not None
        assert len(guard.children()) == 1
        log = (tmp_path / "redis" / "server.log").read_text()
        assert log.count("Ready to accept connections") == 1


def test_nothing_is_left_after_kill_9_of_every_command(tmp_path: Path) -> None:
    with command_using(tmp_path) as one, command_using(tmp_path) as other:
        assert first_line(one) == first_line(other) != ""
        server = server_process(tmp_path)
        guard = server.parent()
        assert guard is not None
        one.send_signal(signal.SIGKILL)
        other.send_signal(signal.SIGKILL)
        assert eventually(lambda: ended(server) and ended(guard), within_s=20)


def test_a_server_that_crashes_in_use_is_started_again_by_ensure(tmp_path: Path) -> None:
    with use_valkey(tmp_path) as resident:
        first = server_process(tmp_path)
        first.kill()
        assert resident.ensure() == resident.url
        second = server_process(tmp_path)
        assert second.pid != first.pid
        resident.ensure()
        assert server_process(tmp_path).pid == second.pid


def test_a_server_dies_with_its_watchdog_and_is_started_again_by_ensure(tmp_path: Path) -> None:
    with use_valkey(tmp_path) as resident:
        first = server_process(tmp_path)
        guard = first.parent()
        assert guard is not None
        guard.kill()
        assert eventually(lambda: ended(first), within_s=20)
        resident.ensure()
        assert not ended(server_process(tmp_path))


def test_what_a_crash_or_a_reboot_left_behind_is_cleaned_up(tmp_path: Path) -> None:
    folder = tmp_path / "redis"
    folder.mkdir()
    (folder / "valkey.sock").write_text("not a socket")
    (folder / "socket-path").write_text(str(folder / "valkey.sock"))
    # the process id was given again: to this very process, which must survive
    (folder / "server.pid").write_text(json.dumps({"pid": os.getpid(), "started_s": 1.0}))
    with use_valkey(tmp_path):
        assert server_process(tmp_path).pid != os.getpid()


def test_an_orphan_is_ended_before_a_new_server_starts(tmp_path: Path) -> None:
    with subprocess.Popen(["sleep", "60"]) as orphan:
        folder = tmp_path / "redis"
        folder.mkdir()
        started_s = psutil.Process(orphan.pid).create_time()
        note = json.dumps({"pid": orphan.pid, "started_s": started_s})
        (folder / "server.pid").write_text(note)
        with use_valkey(tmp_path):
            assert not psutil.pid_exists(orphan.pid)


def test_only_the_owner_can_read_what_a_server_leaves(tmp_path: Path) -> None:
    with use_valkey(tmp_path / "home"):
        for path in [tmp_path / "home", *(tmp_path / "home").rglob("*")]:
            assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path


def _of_shell(script: str, *, start_max_s: float) -> ServerKind:
    return ServerKind(
        name="odd",
        prepare=lambda _: ("sh", "-c", script),
        url=written_url,
        answers=accepts_connections,
        start_max_s=start_max_s,
    )


def test_no_api_key_reaches_a_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "a-key-that-stays-here")
    with pytest.raises(RoadError), use(tmp_path, _of_shell("env; exit 1", start_max_s=10)):
        pass
    log = (tmp_path / "odd" / "server.log").read_text()
    assert "PATH=" in log
    assert "a-key-that-stays-here" not in log


def test_a_server_that_ends_at_once_is_an_error_that_tells_its_log(tmp_path: Path) -> None:
    kind = _of_shell("echo cannot bind >&2; exit 3", start_max_s=100)
    began_s = time.monotonic()
    with (
        pytest.raises(
            RoadError, match=r"the odd server stopped right after its start; its log is "
        ),
        use(tmp_path, kind),
    ):
        pass
    assert time.monotonic() - began_s < 50, "it is not waited for"
    log = (tmp_path / "odd" / "server.log").read_text()
    assert "cannot bind" in log
    assert "the server ended by itself with status 3" in log


START_ON_A_FULL_DISK = """
import resource, sys
from pathlib import Path
from runner.errors import RoadError
from runner.servers.valkey import use_valkey
resource.setrlimit(resource.RLIMIT_FSIZE, (16, resource.RLIM_INFINITY))
try:
    with use_valkey(Path(sys.argv[1])):
        pass
except RoadError as error:
    sys.exit(str(error))
"""


def test_a_start_on_a_full_disk_does_not_quote_an_older_start(tmp_path: Path) -> None:
    (tmp_path / "redis").mkdir()
    (tmp_path / "redis" / "server.log").write_text("words of an older start\n")
    tried = subprocess.run(
        [sys.executable, "-c", START_ON_A_FULL_DISK, str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert "the redis server stopped right after its start" in tried.stderr
    assert "has nothing of it: see whether the disk is full" in tried.stderr
    assert "older start" not in tried.stderr


def test_of_a_server_that_somebody_else_started_the_whole_log_is_told(tmp_path: Path) -> None:
    silent = replace(VALKEY, answers=lambda _: False, start_max_s=1.0)
    told = r"did not answer within 1 s; .* ends with: .*Ready to accept connections"
    with use_valkey(tmp_path), pytest.raises(RoadError, match=told), use(tmp_path, silent):
        pass


def test_a_server_that_is_killed_while_it_starts_is_started_again(tmp_path: Path) -> None:
    def prepare(folder: Path) -> Sequence[str]:
        command = VALKEY.prepare(folder)
        tried = folder / "tried"
        if tried.exists():
            return command
        tried.touch()
        return ("sh", "-c", "kill -9 $$")

    with use(tmp_path, replace(VALKEY, prepare=prepare)) as server:
        assert VALKEY.answers(server.url)


def test_a_server_that_never_answers_is_an_error_and_is_stopped(tmp_path: Path) -> None:
    kind = _of_shell("echo thinking; exec sleep 60", start_max_s=2.5)
    with (
        pytest.raises(RoadError, match=r"did not answer within 2\.5 s; .*server\.log.*: thinking"),
        use(tmp_path, kind),
    ):
        pass
    server = psutil.Process(json.loads((tmp_path / "odd" / "server.pid").read_text())["pid"])
    assert eventually(lambda: ended(server), within_s=20)


def test_a_server_that_ignores_the_polite_request_is_killed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(watchdog, "_TERMINATE_MAX_S", 0.3)
    script = "trap '' TERM; echo ready; while :; do sleep 0.05; done"
    with subprocess.Popen(["sh", "-c", script], stdout=subprocess.PIPE) as server:
        assert server.stdout is not None
        assert server.stdout.readline() == b"ready\n"
        watchdog._stop(server)
        assert server.returncode == -signal.SIGKILL


def test_a_lock_that_never_comes_free_is_an_error_by_name(tmp_path: Path) -> None:
    lock = tmp_path / "start.lock"
    with (
        locked(lock, fcntl.LOCK_EX, wait_max_s=1),
        pytest.raises(RoadError, match=r"start\.lock is still locked after 0\.1 s"),
        locked(lock, fcntl.LOCK_SH, wait_max_s=0.1),
    ):
        pass


def test_a_command_that_comes_while_the_server_stops_gets_a_new_one(tmp_path: Path) -> None:
    with use_valkey(tmp_path):
        first = server_process(tmp_path)
    time.sleep(1.7)  # the watchdog is about to stop it, or just did
    for _ in range(5):
        with use_valkey(tmp_path) as resident:
            assert isinstance(resident, Resident)
            time.sleep(0.05)
            assert not ended(server_process(tmp_path))
            assert resident.kind.answers(resident.url)
        time.sleep(0.1)
    assert first.pid > 0
