"""The measurements: `make bench`, `make bench-quick`, or `python -m bench --help`."""
