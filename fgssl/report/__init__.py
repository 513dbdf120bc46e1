"""Results of a sweep: run folders become rows, rows become tables and figures."""
