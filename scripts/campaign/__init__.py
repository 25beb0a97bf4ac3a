"""The campaign: real processes under faults, and three histories compared at the end."""
