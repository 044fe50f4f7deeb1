"""The sections of a report, a file each; `build.py` is their table of contents."""
