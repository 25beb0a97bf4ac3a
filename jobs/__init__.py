"""The jobs of this repository, one folder each; `runner new NAME` adds one."""
