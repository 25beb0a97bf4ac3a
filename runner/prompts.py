"""Versioned prompts: reads and renders the `prompts/<version>.md` of a job, and names what it asks.

A prompt file is TOML front matter between two lines `+++` (model parameters), then a `# system` and
a `# user` section in Jinja2. The user section holds the document once, as
`<document>`, newline, `{{ document }}`, newline, `</document>`. The system section knows no
variable: it is the same for every document, so it is stored once and the provider's prompt cache
can hold it.
"""

import json
import re
import tomllib
from base64 import b32encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, Literal

from jinja2 import StrictUndefined, Template, TemplateError
from jinja2.sandbox import SandboxedEnvironment
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from runner.errors import JobError
from runner.keys import content_digest
from runner.model import FieldError

PROMPTS_FOLDER = "prompts"
PART_DIGEST_CHARS = 12
REASK_ERRORS_MAX = 20
REASK_MESSAGE_CHARS_MAX = 300

REPAIR_PROMPT = """\
A previous answer for this document was not accepted. Extract the whole record again from the \
document above and mend these fields:
{errors}
Answer with the complete record, not only with the mended fields."""

_FENCE = "+++"
_PROBE = "text of a document, for trial"
_SECTIONS = re.compile(r"^# (system|user)[ \t]*$", re.MULTILINE)
_VERSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,39}")
# Anything that a model could take for our delimiter, opening or closing: in full width, too, and
# with signs within it that nobody sees.
_UNSEEN = (  # possessive: given back sign by sign, a long run of blanks would take for ever
    r"[\s\u00ad\u180e\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufe00-\ufe0f\ufeff"
    r"\U000e0000-\U000e01ef]*+"
)
_TAG_NAME = _UNSEEN.join(f"[{sign}{chr(ord(sign) + 0xFEE0)}]" for sign in "document")
_DELIMITER = re.compile(
    rf"[<\uff1c\ufe64](?={_UNSEEN}[/\uff0f\u2044]?+{_UNSEEN}{_TAG_NAME})", re.IGNORECASE
)


class Parameters(BaseModel):
    """The model parameters that a prompt's front matter may set; what is absent is not sent."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    temperature: float | None = Field(default=None, ge=0, le=2)
    top_p: float | None = Field(default=None, gt=0, le=1)
    seed: int | None = None
    reasoning_effort: Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"] | None = (
        None
    )
    max_output_tokens: int | None = Field(default=None, ge=1)  # instead of the job's


@dataclass(frozen=True, slots=True)
class PromptVersion:
    """One version of a prompt as its file states it."""

    version: str
    system_template: str
    user_template: str
    parameters: Parameters
    content_hash: str  # "sha256:" and the hash of the file's text


@dataclass(frozen=True, slots=True)
class RenderedPrompt:
    """The two messages for one document; `system` is equal for all documents of a version."""

    system: str
    user: str


def load_prompt(folder: Path, version: str) -> PromptVersion:
    """Read `prompts/<version>.md` of the job in `folder`.

    Raises JobError when the version does not exist (naming those that do) or its file is malformed.
    """
    check_version_name(version)
    path = prompt_path(folder, version)
    if not path.is_file():
        there = ", ".join(versions_in(folder)) or "none"
        raise JobError(f"prompt version {version!r}: {path} does not exist; there are: {there}")
    return parse_prompt(read_text(path), version=version, where=str(path))


def versions_in(folder: Path) -> list[str]:
    """The versions that the job in `folder` has files of, sorted by name."""
    return sorted(path.stem for path in (folder / PROMPTS_FOLDER).glob("*.md"))


def check_version_name(version: str) -> None:
    """Raise JobError for what cannot name a version, such as a path."""
    if not _VERSION.fullmatch(version):
        raise JobError(f"prompt version {version!r} is no name of a version, such as v1")


def parse_prompt(text: str, *, version: str, where: str) -> PromptVersion:
    """Parse a prompt file's text and render it once for trial; `where` names it in messages.

    Raises JobError when the front matter, a section, the document's place or a variable is wrong.
    """
    parameters, body = _front_matter(text, where)
    system, user = _sections(body, where)
    prompt = PromptVersion(version, system, user, parameters, _hash(text))
    try:
        rendered = render(prompt, document=_PROBE)
    except JobError as error:
        raise JobError(f"{where}: {error}") from error
    place = f"<document>\n{_PROBE}\n</document>"
    around = rendered.user.replace(place, "")
    if rendered.user.count(place) != 1 or _PROBE in around or _DELIMITER.search(around):
        raise JobError(
            f"{where}: the # user section must hold the document exactly once, as the three lines"
            " <document>, {{ document }}, </document>, with no other such tag"
        )
    return prompt


def prompt_id(prompt: PromptVersion, *, models: tuple[str, ...], schema: Mapping[str, Any]) -> str:
    """Return the id of all that shapes a request but the document: `p` and 16 base-32 characters.

    It covers templates, parameters, the model ladder, the strict schema (order of keys included:
    models answer in that order) and the repair prompt.
    """
    digest = content_digest(_packed(_shaping(prompt, models=models, schema=schema)))
    return "p" + b32encode(digest[:10]).decode().lower()


def part_digests(
    prompt: PromptVersion, *, models: tuple[str, ...], schema: Mapping[str, Any]
) -> dict[str, str]:
    """A short digest of each part that the prompt id covers, to tell which one changed."""
    return {
        name: content_digest(_packed(part)).hex()[:PART_DIGEST_CHARS]
        for name, part in _shaping(prompt, models=models, schema=schema).items()
    }


def _shaping(
    prompt: PromptVersion, *, models: tuple[str, ...], schema: Mapping[str, Any]
) -> dict[str, Any]:
    return {
        "system": prompt.system_template,
        "user": prompt.user_template,
        "parameters": prompt.parameters.model_dump(exclude_none=True),
        "models": models,
        "schema": schema,
        "repair": REPAIR_PROMPT,
    }


def _packed(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def render(prompt: PromptVersion, *, document: str) -> RenderedPrompt:
    """Render the messages for one document.

    The document's text appears verbatim between its tags, except that a `<` that begins a
    `<document>` or `</document>` tag inside it is written `&lt;`, unseen signs and widths aside: no
    text can end its delimiter.
    Raises JobError when a template uses a variable that does not exist or fails otherwise.
    """
    try:
        return RenderedPrompt(
            system=_constant(prompt.system_template),
            user=_compiled(prompt.user_template).render(document=_as_data(document)),
        )
    except (TemplateError, TypeError, ValueError, ArithmeticError) as error:
        raise JobError(f"prompt {prompt.version} cannot be rendered: {error}") from error


def render_reask(errors: Sequence[FieldError]) -> str:
    """Return what a re-ask says after the document: paths and errors, never the former answer.

    At most REASK_ERRORS_MAX errors are named, each cut to REASK_MESSAGE_CHARS_MAX characters.
    """
    lines = [f"- {_short(error.path) or 'record'}: {_short(error.message)}" for error in errors]
    unnamed = len(lines) - REASK_ERRORS_MAX
    if unnamed > 0:
        lines[REASK_ERRORS_MAX:] = [f"- and {unnamed} more of the same kind"]
    return REPAIR_PROMPT.format(errors="\n".join(lines))


@cache
def _environment() -> SandboxedEnvironment:
    return SandboxedEnvironment(
        undefined=StrictUndefined,
        autoescape=False,  # a prompt is plain text, not a page
        keep_trailing_newline=True,
    )


@lru_cache(maxsize=256)
def _compiled(template: str) -> Template:
    return _environment().from_string(template)


@lru_cache(maxsize=256)
def _constant(template: str) -> str:
    return _compiled(template).render()


def _as_data(text: str) -> str:
    return _DELIMITER.sub("&lt;", text)


def _short(text: str) -> str:
    line = _as_data(" ".join(text.split()))
    if len(line) > REASK_MESSAGE_CHARS_MAX:
        return line[: REASK_MESSAGE_CHARS_MAX - 1] + "…"
    return line


def _front_matter(text: str, where: str) -> tuple[Parameters, str]:
    lines = text.splitlines(keepends=True)
    fences = [place for place, line in enumerate(lines) if line.rstrip() == _FENCE][:2]
    if len(fences) != len(("open", "close")) or fences[0] != 0:
        raise JobError(f"{where}: must begin with TOML front matter between two lines {_FENCE}")
    try:
        found = tomllib.loads("".join(lines[1 : fences[1]]))
        return Parameters.model_validate(found), "".join(lines[fences[1] + 1 :])
    except tomllib.TOMLDecodeError as error:
        raise JobError(f"{where}: front matter is not valid TOML: {error}") from error
    except ValidationError as error:
        raise JobError(f"{where}: front matter: {problems_of(error)}") from error


def _sections(body: str, where: str) -> tuple[str, str]:
    before, *parts = _SECTIONS.split(body)
    if before.strip() or parts[::2] != ["system", "user"]:
        raise JobError(
            f"{where}: after the front matter come one `# system` and one `# user` section,"
            " in this order"
        )
    return parts[1].strip(), parts[3].strip()


def problems_of(error: ValidationError) -> str:
    """Every problem of a file's fields in one line: where it is, and what it is."""
    return "; ".join(
        f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}" for problem in error.errors()
    )


def prompt_path(folder: Path, version: str) -> Path:
    """Where the file of this version is, or would be."""
    return folder / PROMPTS_FOLDER / f"{version}.md"


def read_text(path: Path) -> str:
    """The text of a UTF-8 file, whatever its line ends. Raises JobError for another encoding."""
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise JobError(f"{path}: not UTF-8 text: {error}; save it as UTF-8") from error


def _hash(text: str) -> str:
    return "sha256:" + content_digest(text.encode()).hex()
