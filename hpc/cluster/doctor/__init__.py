"""Check a site against its profile: by its scheduler's answers, and by the processes of a job on two nodes."""
