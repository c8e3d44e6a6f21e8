"""What the tests and the demo stand on: a private server, app layouts, sample data."""
