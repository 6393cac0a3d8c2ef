"""The command line: `mas-hooks demo | ls | run | cp | report | sites | doctor | bench`."""
