"""Check a profile on its site, by the scheduler's reports and by a self-test on two nodes."""
