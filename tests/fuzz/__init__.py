"""Hostile arguments to everything public: a permitted error, or a call that keeps its promises."""
