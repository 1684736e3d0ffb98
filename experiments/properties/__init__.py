"""Properties that the paper claims without a figure, each measured within seconds on a small problem.

Every module has a function `measure`: its arguments are the keys of conf/property/<module>.yaml, and it returns one tidy table.
scripts/claims/properties.py judges these tables, scripts/figures/properties.py draws them.
"""
