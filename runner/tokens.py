"""How many tokens a text has: exact where the vocabulary is known, else an estimate or a bound."""

import re

import toktok

# Names as providers write them, after any `ft:` or `vendor/` prefix; the first match wins.
_VOCABULARIES = (
    (re.compile(r"gpt-oss"), "o200k_harmony"),
    (re.compile(r"(chat)?gpt-4(o|\.1|\.5)|gpt-5|o[134](-|$)"), "o200k_base"),
    (re.compile(r"gpt-4(-|$)|gpt-3\.5"), "cl100k_base"),
)
_BYTES_PER_TOKEN = 4  # off by -41 % to +19 % on real documents: an estimate, no more
_MESSAGE_OVERHEAD_TOKENS = 8  # role, separators and an optional name; OpenAI's own count is 4
_ANSWER_PRIMING_TOKENS = 8  # what opens the answer; OpenAI's own count is 3


def count(text: str, *, model: str) -> int | None:
    """The exact number of tokens of `text` alone, or None when the model's vocabulary is unknown.

    `model` is the name that the provider knows. Not counted: what wraps a message, the schema.
    """
    vocabulary = _vocabulary(model)
    if vocabulary is None:
        return None
    # A lone surrogate cannot be sent as UTF-8 either; it counts as what replaces it.
    sendable = text.encode(errors="replace").decode()
    return int(toktok.batch_count([sendable], vocabulary, threads=1)[0])


def knows(model: str) -> bool:
    """Whether tokens of this model are counted exactly."""
    return _vocabulary(model) is not None


def estimate(text: str, *, model: str) -> int:
    """The number of tokens of `text`: exact when `count` knows it, else bytes / 4, rounded up."""
    exact = count(text, model=model)
    if exact is not None:
        return exact
    return -(-len(text.encode(errors="replace")) // _BYTES_PER_TOKEN)


def bound(text_bytes: int, *, messages: int = 2) -> int:
    """At least as many tokens as a request of `messages` messages with that much text can have.

    A token of a byte-level BPE stands for at least one byte, so bytes bound tokens; a fixed
    overhead per message and for the answer's opening is added. The schema counts as text: give the
    bytes of the whole request body to be safe. Does not hold for a provider that adds text of its
    own.
    """
    return text_bytes + messages * _MESSAGE_OVERHEAD_TOKENS + _ANSWER_PRIMING_TOKENS


def _vocabulary(model: str) -> str | None:
    name = model.lower().removeprefix("ft:").rpartition("/")[2]
    return next((vocabulary for pattern, vocabulary in _VOCABULARIES if pattern.match(name)), None)
