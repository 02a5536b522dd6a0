"""What steers learning: optimisers, schedules, averaged weights."""
