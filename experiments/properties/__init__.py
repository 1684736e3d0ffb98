"""What the paper claims without a figure: each claim measured on a problem small enough to be done in seconds.

Every module has a function `measure`, whose arguments are the keys of conf/property/<its name>.yaml and which returns one tidy
table. scripts/properties.py judges the claims from these tables and draws them.
"""
