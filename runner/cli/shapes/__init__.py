"""What each command prints with `--json`: closed models, exact money, times as ISO 8601 in UTC.

`runner run` and a finished `run --dry-run` print `runner.batches.Summary` and `Forecast`;
`results` and `dead export` write lines of their own.
"""
