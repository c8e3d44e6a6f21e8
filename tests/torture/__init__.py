"""Random faults under a busy app, and a ledger that says of every row whether it may be gone."""
