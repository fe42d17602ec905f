"""A package, so that a process that is no pytest finds these modules too: other distributions install a `tests`."""
