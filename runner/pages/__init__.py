"""Pages of HTML, readable in light and dark; those made here stand alone and fetch nothing.

The dashboard serves the same pages between its own head and foot: see `environment`.
"""

from functools import lru_cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from .numbers import FILTERS

TEMPLATES = Path(__file__).parent / "templates"


def render_page(template: str, **values: Any) -> str:
    """A page from `templates/`; every value is escaped."""
    return _alone().get_template(template).render(**values)


@lru_cache(maxsize=1)
def _alone() -> Environment:
    return environment(served=False)


def environment(*folders: Path, served: bool) -> Environment:
    """What renders the pages of these folders, and behind them those of `templates/`.

    A template of a folder takes the place of one with the same name here. `served` pages may name
    others by their address. Every value is escaped, and one that is missing is an error.
    """
    made = Environment(
        loader=FileSystemLoader([*folders, TEMPLATES]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters.update(FILTERS)
    made.globals["served"] = served
    return made
