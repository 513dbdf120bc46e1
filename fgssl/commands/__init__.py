"""Commands of the program `fgssl`, one thin click command a file."""
