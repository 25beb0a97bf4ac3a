"""What `metrics` prints with `--json`."""

from runner.cli.shapes.base import Shape


class MetricsShape(Shape):
    """`metrics`: where it answers, printed as soon as it does."""

    url: str
