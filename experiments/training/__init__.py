"""Train one run: inputs, loop, optimiser, schedules, state."""
