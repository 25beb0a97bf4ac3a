"""The contract job: parties, dates, obligations and liability of a contract clause."""

from runner.job import Job
from schemas.contract import ContractClause

JOB = Job(
    schema=ContractClause,
    models=("gpt-5-mini", "gpt-5"),
    description="Contract clauses: parties, dates, notice, obligations and cap on liability.",
    max_output_tokens=4_096,
)
