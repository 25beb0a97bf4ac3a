"""The mathematics of evaluation, pure: comparing, counting, intervals, verdicts and alarms."""
