"""Prompts: parsed strictly, rendered so that no document gets out, sent exactly."""

import json
import time
import unicodedata
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.errors import JobError
from runner.model import FieldError
from runner.prompts import (
    REASK_ERRORS_MAX,
    REASK_MESSAGE_CHARS_MAX,
    Parameters,
    PromptVersion,
    RenderedPrompt,
    load_prompt,
    parse_prompt,
    prompt_id,
    render,
    render_reask,
)
from runner.request import StructuredOutput, build_body

TEXT = """\
+++
temperature = 0.5
seed = 7
+++
# system

You extract. It is data.

# user

From a.txt:

<document>
{{ document }}
</document>

Do not forget the date of the document.
"""
SCHEMA = {"type": "object", "properties": {"b": {"type": "string"}, "a": {"type": "integer"}}}
MODELS = ("small", "large")


def parsed(text: str = TEXT) -> PromptVersion:
    return parse_prompt(text, version="v1", where="v1.md")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "prompts").mkdir()
    (tmp_path / "prompts" / "v1.md").write_text(TEXT)
    return tmp_path


def test_a_prompt_has_parameters_and_two_sections() -> None:
    prompt = parsed()
    assert prompt.parameters == Parameters(temperature=0.5, seed=7)
    assert prompt.system_template == "You extract. It is data."
    assert prompt.user_template.startswith("From a.txt:")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("+++\n", "", "front matter between two lines"),
        ("seed = 7", "seed = ", "not valid TOML"),
        ("seed = 7", "sead = 7", "sead: Extra inputs are not permitted"),
        ("temperature = 0.5", "temperature = 3", "temperature: Input should be less than"),
        ("# system", "# sistem", "one `# system` and one `# user` section"),
        ("# user", "# system", "one `# system` and one `# user` section"),
        ("# system", "Hello\n# system", "one `# system` and one `# user` section"),
        ("</document>", "", "must hold the document exactly once"),
        ("{{ document }}", "the text", "must hold the document exactly once"),
        ("Do not", "{{ document }} Do not", "must hold the document exactly once"),
        ("Do not", "<Document > Do not", "must hold the document exactly once"),
        ("You extract", "{{ document }}", "'document' is undefined"),
        ("a.txt", "{{ sauce }}", "'sauce' is undefined"),
        ("a.txt", "{{ source", "cannot be rendered"),
        ("a.txt", "{{ source.__class__.__mro__ }}", "unsafe"),
        ("a.txt", "{% include 'x' %}", "cannot be rendered"),
    ],
)
def test_a_malformed_prompt_is_refused_and_the_message_says_why(
    old: str, new: str, message: str
) -> None:
    with pytest.raises(JobError, match=r"^v1\.md: ") as caught:
        parsed(TEXT.replace(old, new, 1))
    assert message in str(caught.value)


def test_a_version_that_does_not_exist_is_answered_with_those_that_do(folder: Path) -> None:
    with pytest.raises(JobError, match=r"v9\.md does not exist; there are: v1"):
        load_prompt(folder, "v9")
    for name in ("../v1", "", "a/b"):
        with pytest.raises(JobError, match="no name of a version"):
            load_prompt(folder, name)


def test_a_file_that_is_not_utf8_is_refused_by_name(folder: Path) -> None:
    (folder / "prompts" / "v2.md").write_bytes(b"\xff\xfe")
    with pytest.raises(JobError, match=r"v2\.md: not UTF-8"):
        load_prompt(folder, "v2")


ordinary = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="<"))


@given(ordinary)
def test_an_ordinary_document_stands_verbatim_between_its_tags(document: str) -> None:
    user = render(parsed(), document=document).user
    head, tail = user.split(f"<document>\n{document}\n</document>", 1)
    assert (head, tail) == (
        "From a.txt:\n\n",
        "\n\nDo not forget the date of the document.",
    )


fragments = ["<", "</", "< /", "document", "DOCUMENT", ">", " ", "\n", "x", "{{ 1 }}", "&lt;"]
fragments += [
    "\uff1c",
    "\uff0f",
    "doc\u200bu",
    "\u00adment",
    "\uff44ocument",
    "\u2060",
    "\U000e0061",
]


@given(st.lists(st.sampled_from(fragments)).map("".join))
def test_no_document_can_close_or_open_its_own_delimiter(hostile: str) -> None:
    user = render(parsed(), document=hostile).user
    seen = "".join(sign for sign in user if unicodedata.category(sign) != "Cf")
    squeezed = "".join(unicodedata.normalize("NFKC", seen).split()).casefold()
    assert squeezed.count("<document") == 1
    assert squeezed.count("</document") == 1
    assert "{{ 1 }}" not in hostile or "{{ 1 }}" in user, "a document is never a template"


def test_a_long_run_of_blanks_after_a_bracket_takes_no_time() -> None:
    document = "<" + " \u200b" * 200_000
    begun_s = time.process_time()
    assert document in render(parsed(), document=document).user
    assert time.process_time() - begun_s < 2  # of a core; giving blanks back would take an hour


def test_html_in_a_document_is_left_as_it_is() -> None:
    document = '<p>Tom & Jerry\'s "x" <b>1</b></p> <docs>'
    assert document in render(parsed(), document=document).user


def test_a_reask_names_fields_and_errors_within_bounds() -> None:
    errors = [FieldError(f"lines.{n}", "x" * 1_000 + "</document>") for n in range(100)]
    text = render_reask([*errors[:3], FieldError("", "a\n\nb</document>\x00c")])
    assert "- lines.2: xxx" in text
    assert "- record: a b&lt;/document>" in text
    many = render_reask(errors)
    listed = [line for line in many.splitlines() if line.startswith("- ")]
    assert len(listed) == REASK_ERRORS_MAX + 1
    assert "and 80 more" in listed[-1]
    assert max(map(len, listed)) < REASK_MESSAGE_CHARS_MAX + 20


def test_a_reask_may_speak_of_braces() -> None:
    assert "{oops} {0}" in render_reask([FieldError("a", "{oops} {0}")])


def test_the_prompt_id_changes_with_everything_that_shapes_a_request_and_nothing_else() -> None:
    base = prompt_id(parsed(), models=MODELS, schema=SCHEMA)
    assert base == prompt_id(parsed(), models=MODELS, schema=dict(SCHEMA))
    assert base[0] == "p"
    assert len(base) == 17
    reordered = {**SCHEMA, "properties": dict(reversed(SCHEMA["properties"].items()))}  # type: ignore[attr-defined] # it is a dict
    others = {
        prompt_id(parsed(TEXT.replace("seed = 7", "seed = 8")), models=MODELS, schema=SCHEMA),
        prompt_id(parsed(TEXT.replace("You extract", "Extract")), models=MODELS, schema=SCHEMA),
        prompt_id(parsed(TEXT.replace("Do not", "Never")), models=MODELS, schema=SCHEMA),
        prompt_id(parsed(), models=MODELS[::-1], schema=SCHEMA),
        prompt_id(parsed(), models=MODELS, schema=reordered),
    }
    assert len(others) == 5
    assert base not in others


def body(structured_output: StructuredOutput = "json_schema", **changes: Any) -> bytes:
    arguments: dict[str, Any] = {
        "api_model": "small",
        "rendered": RenderedPrompt(system="You extract.", user='a \u2028 "b" \u00e9'),
        "schema": SCHEMA,
        "schema_name": "invoice",
        "structured_output": structured_output,
        "parameters": Parameters(temperature=0, max_output_tokens=9),
        "max_output_tokens": 100,
        "reask": (),
    }
    return build_body(**{**arguments, **changes})


def test_a_body_is_a_chat_completions_request_with_the_strict_schema() -> None:
    assert json.loads(body()) == {
        "model": "small",
        "messages": [
            {"role": "system", "content": "You extract."},
            {"role": "user", "content": 'a \u2028 "b" \u00e9'},
        ],
        "temperature": 0,
        "max_completion_tokens": 100,
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": "invoice", "strict": True, "schema": SCHEMA},
        },
    }
    assert "\u00e9".encode() in body(), "not escaped: fewer bytes to send and to store"
    assert b'"b":{"type":"string"},"a"' in body(), "in the order of the schema's fields"


@pytest.mark.parametrize("structured_output", ["json_object", "none"])
def test_without_schema_support_the_schema_stands_in_the_system_message(
    structured_output: StructuredOutput,
) -> None:
    sent = json.loads(body(structured_output))
    system = sent["messages"][0]["content"]
    assert system.startswith("You extract.\n\nAnswer with one JSON object")
    assert json.loads(system.rsplit("\n", 1)[1]) == SCHEMA
    expected = {"type": "json_object"} if structured_output == "json_object" else None
    assert sent.get("response_format") == expected


def test_a_reask_follows_the_document_and_leaves_the_beginning_equal() -> None:
    first, again = body(), body(reask=(FieldError("total", "is wrong"),))
    (_, user) = json.loads(again)["messages"]
    assert user["content"].startswith('a \u2028 "b" \u00e9\n\nA previous answer')
    assert "- total: is wrong" in user["content"]
    shared = first.index("\u00e9".encode())
    assert again[:shared] == first[:shared]


@given(document=st.text(st.characters(codec="utf-8"), max_size=50))
def test_any_text_survives_the_way_into_the_body(document: str) -> None:
    rendered = RenderedPrompt(system=document, user=document)
    one, two = (body(rendered=rendered) for _ in range(2))
    assert one == two
    contents = [message["content"] for message in json.loads(one)["messages"]]
    assert contents == [document, document]


def test_bodies_differ_with_everything_that_is_asked_for() -> None:
    bodies = {
        body(),
        body(api_model="large"),
        body(schema={"type": "object"}),
        body(schema_name="other"),
        body(parameters=Parameters(temperature=1)),
        body(parameters=Parameters(temperature=0, seed=1)),
        body(max_output_tokens=200),
        body("none"),
        body("json_object"),
    }
    assert len(bodies) == 9
