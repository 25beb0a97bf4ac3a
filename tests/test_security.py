"""What the runner promises about secrets, files and hostile input, and which test holds each row.

| row of the promises | held by |
|---|---|
| S1 the API key appears nowhere | here; `test_provider` (answers that quote it), `test_lanes` |
| S2 pickle is never loaded | here (nothing imports it); `test_queue` (a planted payload) |
| S3 the dashboard | the tests of `runner/web`; here the page of metrics |
| S4 no control sequence reaches a terminal | here, on a terminal; `test_cli_terminal`, `test_log` |
| S5 no cell starts a formula | `test_exporters` |
| S6 hostile files | `test_hostile_files`, `test_loaders_walk`; here: no reference is fetched |
| S7 a document gives no orders | `test_injections`, `test_road_injections` |
| S8 where the key goes | here; `test_provider` (redirects, http, overrides), `test_config` |
| S9 erased is gone | `test_erase` |
| S10 0600 and 0700, parameters, quoted search | here; `test_ledger_migrations`, `test_exporters` |
"""

import ast
import json
import os
import pty
import select
import socket
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import zstandard
from redis import Redis
from sqlalchemy import inspect
from sqlalchemy import select as rows_of
from sqlalchemy.engine import Row

from runner.config import Settings
from runner.ledger.tables import blob, metadata
from runner.loaders import iter_sources
from runner.metrics import Metrics
from runner.model import OPEN_STATES, Dead, Failure, Fault
from runner.servers.valkey import use_valkey
from runner.testing.control import ProviderProcess
from tests.command_lines import RUNNER, call, clean_env
from tests.jobfolders import make_job
from tests.ledgers import World, open_world
from tests.roads import Road, wait_until

KEY = "sk-canary-5Kq8Zt2YvXw1LmN0"
TEXT = "canary-phrase-of-a-document-8d1f"
TABLES = [one for one in metadata.sorted_tables if one is not blob]
ROOT = Path(__file__).parent.parent
ESCAPES = "\x1b]0;owned\x07\x1b[2J\x9b31m\u202e\x08"


# ------------------------------------------------------------ S1: the key and the text


def test_the_key_is_nowhere_and_a_documents_text_only_where_it_belongs(
    road: Road, provider: ProviderProcess
) -> None:
    road.more_env |= {"OPENAI_API_KEY": KEY, "RUNNER_LOG": "json"}
    make_job(road.jobs)
    folder = road.folder / "in"
    folder.mkdir()
    for number, word in enumerate(("GOOD", "REFUSED", "BROKEN", "NEGATIVE")):
        (folder / f"{number}.txt").write_text(f"{word} {TEXT} total 5", encoding="utf-8")
    provider.control(
        faults={
            "rules": [
                {"fault": "bad_request_400", "match": "REFUSED"},
                {"fault": "scripted", "match": "BROKEN", "answer": json.dumps({"total": TEXT})},
                {"fault": "scripted", "match": "NEGATIVE", "answer": '{"total": -1}'},
                {"fault": "scripted", "match": "GOOD", "answer": '{"total": 5}'},
            ]
        }
    )
    worker = road.start("work")
    submitted = road.call("submit", "tiny", str(folder), "--batch", "june", "--model", "gpt-5-mini")
    assert submitted.returncode == 0, submitted.stderr
    seen: dict[str, tuple[list[str], dict[str, str]]] = {}

    def ended() -> bool:
        seen.update(processes_of(worker.pid, road.home))
        counts = road.counts()
        return not any(counts[state] for state in OPEN_STATES)

    wait_until(ended, what="all documents")
    dumped = redis_dump(road.home)
    # a key that the provider refuses makes the longest messages
    provider.control(heal=True, revoked_keys=["*"])
    (folder / "late.txt").write_text(f"LATE {TEXT}", encoding="utf-8")
    road.call("submit", "tiny", str(folder), "--batch", "june", "--model", "gpt-5-mini")
    wait_until(lambda: bool(road.json("status")["paused_keys"]), what="the pause of the key")
    worker.terminate()
    out, err = worker.communicate(timeout=100)
    shown = "".join(told(road))
    assert "paused" in shown, "void"
    assert "turn_ended" in err, "void"
    with road.ledger() as ledger, ledger.snapshot() as connection:
        tables = {one.name: list(connection.execute(rows_of(one))) for one in TABLES}
        page = Metrics(ledger, Settings.load(env=road.env)).render()
        blobs = [unpacked(row.zstd) for row in connection.execute(rows_of(blob))]
    assert any(TEXT.encode() in one for one in blobs), "void: texts are found"
    found = {
        "what workers say": (out + err + submitted.stdout + submitted.stderr).encode(),
        "what commands show": shown.encode(),
        "rows of the ledger": repr(tables).encode(),
        "blobs": b"\n".join(blobs),
        "Redis": dumped,
        "metrics": page,
        **{str(path): path.read_bytes() for path in files_of(road.home)},
        **{f"command line of {name}": repr(line).encode() for name, (line, _) in seen.items()},
    }
    assert [name for name, content in found.items() if KEY.encode() in content] == []
    assert any("valkey" in name for name in seen), "void"
    servers = {name: env for name, (_, env) in seen.items() if "runner.cli" not in name}
    assert [name for name, env in servers.items() if KEY in env.values()] == []
    _assert_text_is_where_it_belongs(found, tables)


def _assert_text_is_where_it_belongs(
    found: dict[str, bytes], tables: dict[str, list[Row[Any]]]
) -> None:
    """Messages and errors quote the value that is wrong; nothing else of the ledger, or beside."""
    (broken,) = (row for row in tables["document"] if row.reason == "schema_invalid")
    assert TEXT in broken.message, "void"
    assert TEXT not in broken.signature
    quoting = {
        (table, column)
        for table, rows in tables.items()
        for row in rows
        for column, value in row._mapping.items()
        if TEXT in str(value)
    }
    assert quoting <= {
        *(("document", "message"), ("document", "reask_json")),
        *(("attempt", "message"), ("record", "data_json")),
    }
    beside = {name for name, content in found.items() if TEXT.encode() in content}
    assert {Path(name).name for name in beside} <= {
        *("blobs", "rows of the ledger", "what commands show"),
        *("ledger.db", "ledger.db-wal"),
    }


def told(road: Road) -> Iterator[str]:
    """What commands say of this home, with data and talk; none of them is asked for a text."""
    for arguments in (
        ("status",),
        ("dead", "list", "--all"),
        ("calls", "list", "--json"),
        ("doctor", "--json"),
    ):
        done = road.call(*arguments)
        yield done.stdout + done.stderr


def processes_of(pid: int, home: Path) -> dict[str, tuple[list[str], dict[str, str]]]:
    """Command lines and environments of a worker, its children, and the servers of its home."""
    found: dict[str, tuple[list[str], dict[str, str]]] = {}
    children = psutil.Process(pid).children(recursive=True)
    servers = [one for one in psutil.process_iter() if str(home) in " ".join(_line(one))]
    for process in (psutil.Process(pid), *children, *servers):
        try:
            found[f"{process.pid} {' '.join(process.cmdline())}"] = (
                process.cmdline(),
                process.environ(),
            )
        except psutil.Error:
            continue
    return found


def _line(process: psutil.Process) -> list[str]:
    try:
        line: list[str] = process.cmdline()
    except psutil.Error:
        return []
    return line


def redis_dump(home: Path) -> bytes:
    """All keys and values of the Valkey of this home."""
    with use_valkey(home) as server, Redis.from_url(server.url) as redis:
        return b"".join(key + (redis.dump(key) or b"") for key in redis.scan_iter())


def files_of(home: Path) -> list[Path]:
    """Every regular file of a home."""
    return [path for path in home.rglob("*") if path.is_file() and not path.is_symlink()]


def unpacked(packed: bytes) -> bytes:
    """A blob's own bytes."""
    return zstandard.ZstdDecompressor().decompress(packed, max_output_size=100_000_000)


# ------------------------------------------------------------ S2


def test_no_part_of_the_runner_imports_what_runs_code_from_bytes() -> None:
    forbidden = {"pickle", "marshal", "shelve", "dill", "cloudpickle"}
    found = {
        (path.name, name)
        for path in (ROOT / "runner").rglob("*.py")
        if "testing" not in path.parts  # the oracle of the tests shares nothing with the runner
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in _imported(node)
        if name.partition(".")[0] in forbidden
    }
    assert found == set()


def _imported(node: ast.Import | ast.ImportFrom) -> list[str]:
    if isinstance(node, ast.ImportFrom):
        return [node.module or ""]
    return [alias.name for alias in node.names]


# ------------------------------------------------------------ S4 and S10: hostile names


@pytest.fixture
def hostile(tmp_path: Path) -> Iterator[World]:
    """A batch, sources, models and messages whose names are orders to a terminal."""
    with open_world(tmp_path) as world:
        worker = world.worker()
        batch = world.batch(f"june{ESCAPES}", job="invoice", models=(f"small{ESCAPES}",))
        world.add(batch, f"text{ESCAPES}", f"other{ESCAPES}", None)
        failure = Failure(Fault.BAD_REQUEST, f"HTTP 400: no{ESCAPES}")
        world.turn(worker, Dead("bad_request", failure))
        yield world


COMMANDS = (
    ("status",),
    ("batch", "list"),
    ("dead", "list"),
    ("dead", "list", "--all"),
    ("dead", "list", "--json"),
    ("calls", "list"),
    ("calls", "list", "--json"),
    ("audit",),
    ("show", f"nobody{ESCAPES}"),
    ("status", f"nobody{ESCAPES}"),
    ("run", f"nobody{ESCAPES}", "here"),
)


def test_names_and_messages_give_a_terminal_no_orders(hostile: World, tmp_path: Path) -> None:
    documents = [row.id for row in hostile.rows(hostile.batch(f"june{ESCAPES}"))]
    shows = [("show", one) for one in documents] + [("dead", "show", one) for one in documents]
    for arguments in (*COMMANDS, *shows):
        ended = call(*arguments, home=tmp_path / "home")
        shown = ended.out + ended.err
        assert shown, "void"
        assert all(line.isprintable() for line in shown.splitlines()), (arguments, shown)


def test_a_real_terminal_gets_its_own_colours_and_nothing_else(
    hostile: World, tmp_path: Path
) -> None:
    shown = on_a_terminal("dead", "list", "--all", home=tmp_path / "home")
    assert "HTTP 400" in shown, "void"
    assert "owned" not in shown, "a sequence is gone as a whole"
    for sign in ("\x1b]", "\x1b[2J", "\x9b", "\u202e", "\x08"):
        assert sign not in shown


def on_a_terminal(*arguments: str, home: Path) -> str:
    """What a command writes to a terminal."""
    leader, follower = pty.openpty()
    env = clean_env(RUNNER_HOME=str(home), TERM="xterm-256color", COLUMNS="200")
    process = subprocess.Popen([*RUNNER, *arguments], env=env, stdout=follower, stderr=follower)
    os.close(follower)
    shown = b""
    while select.select([leader], [], [], 30)[0]:
        try:
            shown += os.read(leader, 65_536)
        except OSError:  # the other end is closed
            break
    process.wait(100)
    os.close(leader)
    return shown.decode()


QUOTES = ("' OR '1'='1", "'; DROP TABLE document; --", '"', "%", "_", "\\", "a\x00b", "*", "NEAR(")


@pytest.mark.parametrize("words", QUOTES)
def test_words_to_look_for_are_words_and_no_part_of_a_statement(
    words: str, hostile: World, tmp_path: Path
) -> None:
    looks: tuple[tuple[str, ...], ...] = (
        ("dead", "list", "--all", "--grep", words),
        ("dead", "list", "--all", "--reason", words),
        ("dead", "list", "--batch", words),
        ("calls", "list", "--model", words),
        ("calls", "list", "--batch", words),
        ("show", words),
        ("status", words),
    )
    for arguments in looks:
        ended = call(*arguments, "--json", home=tmp_path / "home")
        assert ended.code in (0, 2), (arguments, ended.err)
        assert "unexpected" not in ended.err, (arguments, ended.err)
        if ended.code == 0:
            found = ended.json()
            assert not any(found.get(name) for name in ("letters", "calls")), arguments
    with hostile.ledger.snapshot() as connection:
        assert inspect(connection).has_table("document")


def test_a_search_for_a_sign_of_patterns_finds_that_sign(tmp_path: Path) -> None:
    with open_world(tmp_path) as world:
        worker, batch = world.worker(), world.batch()
        world.add(batch, "one")
        world.turn(worker, Dead("bad_request", Failure(Fault.BAD_REQUEST, "100% of it")))
        home = tmp_path / "home"
        assert len(letters(home, "100%")) == 1
        assert letters(home, "1%t") == []
        assert letters(home, "1__%") == []


def letters(home: Path, words: str) -> list[Any]:
    """The dead letters that a search finds."""
    found: list[Any] = call("dead", "list", "--all", "--grep", words, "--json", home=home).json()[
        "letters"
    ]
    return found


# ------------------------------------------------------------ paths


PATHS = (
    *("../evil", "/etc/passwd", "..", "a/b", "invoice/../invoice"),
    *("a\\b", "evil.py", "-x", "a\nb"),
)


@pytest.mark.parametrize("name", PATHS)
def test_names_of_jobs_and_prompts_lead_to_no_other_place(name: str, tmp_path: Path) -> None:
    (tmp_path / "evil").mkdir()
    (tmp_path / "evil" / "__init__.py").write_text("raise SystemExit('evil was run')")
    (tmp_path / "jobs").mkdir()
    document = tmp_path / "one.txt"
    document.write_text("a document")
    env = {"RUNNER_JOBS": str(tmp_path / "jobs")}
    before = sorted(tmp_path.rglob("*"))
    for arguments in (
        ("run", "--simulate", "--", name, str(document)),
        ("run", "--simulate", f"--prompt={name}", "invoice", str(document)),
        ("prompt", "list", "--", name),
        ("prompt", "show", "--", "invoice", name),
        ("prompt", "new", "--", name),
        ("new", "--folder", str(tmp_path / "jobs"), "--", name),
        ("eval", "--simulate", "--", name),
    ):
        ended = call(*arguments, home=tmp_path / "home", env=env)
        assert ended.code == 2, (arguments, ended.err)
        assert "evil was run" not in ended.err
    assert sorted(tmp_path.rglob("*")) == before, "nothing was written"


@pytest.mark.parametrize("place", ["/dev/full/x", "nowhere/../../nowhere/x.jsonl", "in"])
def test_an_output_that_is_no_file_is_refused_and_nothing_is_written(
    place: str, tmp_path: Path
) -> None:
    (tmp_path / "in").mkdir()
    with open_world(tmp_path) as world:
        world.batch("june")
        ended = call("results", "june", "--out", str(tmp_path / place), home=tmp_path / "home")
    assert ended.code == 2, ended.err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["home", "in"]


# ------------------------------------------------------------ S6 and S8: nobody is called


def test_a_reference_in_a_document_is_text_and_is_not_fetched(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}/"
        page = (
            f'<html><head><link rel="stylesheet" href="{url}a"><base href="{url}">'
            f'<meta http-equiv="refresh" content="0;url={url}b"></head><body>hello'
            f'<img src="{url}c"><iframe src="{url}d"></iframe><script src="{url}e"></script>'
            f'<object data="{url}f"></object></body></html>'
        )
        (tmp_path / "page.html").write_text(page)
        (source,) = iter_sources([str(tmp_path)])
        server.settimeout(0)
        with pytest.raises(BlockingIOError):
            server.accept()
    assert source.text is not None
    assert "hello" in source.text


def test_an_input_is_a_file_and_no_address(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}/one.txt"
        ended = call("run", "invoice", url, "--simulate", home=tmp_path / "home")
        server.settimeout(0)
        with pytest.raises(BlockingIOError):
            server.accept()
    assert ended.code == 2


def test_a_key_goes_over_https_or_to_this_machine_or_nowhere(road: Road) -> None:
    road.more_env |= {"OPENAI_BASE_URL": "http://example.org/v1", "OPENAI_API_KEY": KEY}
    (road.folder / "one.txt").write_text("a document")
    done = road.call("run", "invoice", str(road.folder / "one.txt"))
    assert done.returncode == 5, "paused, so that nothing is lost"
    assert "only ever sent over https or loopback" in done.stderr
    assert KEY not in done.stderr
    assert [one.status for one in road.attempts()] == []


# ------------------------------------------------------------ S10 and loopback


def test_files_are_their_owners_and_servers_listen_on_this_machine_only(
    road: Road, provider: ProviderProcess
) -> None:
    old = os.umask(0)  # the most that could leak
    try:
        worker = road.start("work")
        inputs = road.write_documents(3)
        out = road.folder / "results.jsonl"
        done = road.call("run", "invoice", str(inputs), "--simulate", "--out", str(out))
        assert done.returncode in (0, 3), done.stderr
        metrics = road.start("metrics", "--port", "0")
        assert metrics.stdout is not None
        assert metrics.stdout.readline().startswith("http://127.0.0.1:")
    finally:
        os.umask(old)
    pids = {worker.pid, metrics.pid}
    servers = {int(name.split()[0]) for name in processes_of(worker.pid, road.home)}
    listening = [one.laddr.ip for pid in pids | servers for one in _listening(pid)]
    assert listening, "void"
    assert set(listening) <= {"127.0.0.1", "::1"}
    paths = (road.home, *road.home.rglob("*"))
    modes = {path: stat.S_IMODE(path.lstat().st_mode) for path in paths}
    assert {str(path) for path, mode in modes.items() if mode & 0o077} == set()
    assert len(modes) > 5, "void"
    assert stat.S_IMODE(out.stat().st_mode) == 0o600


def _listening(pid: int) -> list[Any]:
    try:
        connections = psutil.Process(pid).net_connections("inet")
    except psutil.Error:
        return []
    return [one for one in connections if one.status == psutil.CONN_LISTEN]
