"""The oracle: every way to prune against the model of tests/support/model.py."""
