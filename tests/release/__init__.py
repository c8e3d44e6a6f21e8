"""What is published: the same bytes every time, and it works where nothing else is installed."""
