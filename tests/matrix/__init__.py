"""The suite on every major version of PostgreSQL, and on databases updated from each release."""
