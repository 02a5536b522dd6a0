"""Stage 1 and stage 2, their settings, schedules, checkpoints and run folders."""
