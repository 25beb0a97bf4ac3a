"""The limits of reading inputs, all in one place; none is a setting.

An input beyond one of them ends as `unparsable` (or, in a table or in JSON lines, its row does),
with the limit in its message. Together they bound what one input can take: 10 s and 512 MB of a
process of its own, and of the reading process not more than a few whole files.
"""

from dataclasses import dataclass

FILE_MAX_BYTES = 50_000_000
"""The largest whole file (PDF, DOCX, HTML, text) that is read."""

TEXT_MAX_BYTES = 5_000_000
"""The largest text, as UTF-8, that a document can have; more is refused, never cut."""

ROW_MAX_BYTES = 5_000_000
"""The largest row of JSON lines or of a table; one that is larger is passed over to its end."""

ROWS_READ_BYTES = 1_000_000
"""How much of JSON lines or of a table is read at once: each read gives up the interpreter."""

ROW_SKIP_MAX_BYTES = 100_000_000
"""How far a row that is too large is followed in search of its end; after that its file ends."""

UNPACKED_MAX_BYTES = 100_000_000
"""What the parts of a DOCX package may come to when unpacked, by the package's own directory."""

REASON_MAX_CHARS = 500
"""How much is kept of what a parser says about a broken file: it may quote the file."""

PARSE_MAX_S = 10.0
"""How long one file may take to parse, in seconds of the wall clock and in seconds of a core."""

PARSE_MEMORY_MAX_BYTES = 512_000_000
"""The address space of a parser process: program, file, text and everything in between."""

FILES_A_CHILD = 1_000
"""After so many files a parser process is replaced, so that no leak of a parser adds up."""

FILES_UNDERWAY = 2
"""Files in parser processes at once: one is parsed while another is read or stored."""

START_MAX_S = 30.0
"""How long a parser process may take to start; it counts for no file."""


@dataclass(frozen=True, slots=True)
class ParseLimits:
    """What one file may take while it is parsed in a process of its own."""

    max_s: float = PARSE_MAX_S
    memory_max_bytes: int = PARSE_MEMORY_MAX_BYTES
    files_a_child: int = FILES_A_CHILD
