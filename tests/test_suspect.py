"""The note of the document whose job's code runs: it outlives a kill, and a good end removes it."""

import os
import subprocess
import sys
from pathlib import Path

from runner.suspect import Suspect, clear_suspect, suspect_of

CODE = """
import os, signal, sys
from pathlib import Path
from runner.suspect import Suspect
suspect = Suspect(Path(sys.argv[1]))
with suspect.running("dinnocent"):
    pass
if sys.argv[2] == "inside":
    with suspect.running("dguilty"):
        os.kill(os.getpid(), signal.SIGKILL)
os.kill(os.getpid(), signal.SIGKILL)
"""


def _killed(home: Path, where: str) -> int:
    process = subprocess.Popen([sys.executable, "-c", CODE, str(home), where])
    process.wait()
    return process.pid


def test_a_killed_process_leaves_the_document_it_was_running(tmp_path: Path) -> None:
    pid = _killed(tmp_path, "inside")
    assert suspect_of(tmp_path, pid) == suspect_of(tmp_path, pid) == "dguilty"
    clear_suspect(tmp_path, pid)
    assert suspect_of(tmp_path, pid) is None, "it is charged once"
    assert list((tmp_path / "suspects").iterdir()) == []


def test_a_process_that_is_charged_and_lives_on_keeps_its_note(tmp_path: Path) -> None:
    suspect, me = Suspect(tmp_path), os.getpid()
    with suspect.running("dslow"):
        clear_suspect(tmp_path, me)
        assert suspect_of(tmp_path, me) is None
    with suspect.running("dnext"):
        assert suspect_of(tmp_path, me) == "dnext"
    suspect.close()
    clear_suspect(tmp_path, me)
    assert suspect_of(tmp_path, me) is None


def test_a_process_killed_between_documents_accuses_nobody(tmp_path: Path) -> None:
    assert suspect_of(tmp_path, _killed(tmp_path, "outside")) is None


def test_a_good_end_leaves_nothing(tmp_path: Path) -> None:
    suspect = Suspect(tmp_path)
    with suspect.running("d1"):
        pass
    suspect.close()
    assert list((tmp_path / "suspects").iterdir()) == []
