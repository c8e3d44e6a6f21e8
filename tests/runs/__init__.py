"""Runs of prune_batched, as its adversary: killed, cancelled, met by others, slowed down."""
