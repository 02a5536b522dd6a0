"""Stage-1 tasks; one file holds one task: targets, head, loss and metrics."""
