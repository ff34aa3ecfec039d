"""The five stages of a run, one file each: load, convert, deploy, measure, record."""
