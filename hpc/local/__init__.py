"""A planned sweep on this machine: processes that make its runs, several at a time."""
