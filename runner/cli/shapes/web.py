"""What `runner web` prints with `--json`."""

from runner.cli.shapes.base import Shape


class WebShape(Shape):
    """`web`: where the dashboard is, told once it listens; `url` signs in who opens it."""

    url: str
    host: str
    port: int
    home: str
