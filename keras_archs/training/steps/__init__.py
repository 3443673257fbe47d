"""One training step and one evaluation step, as the backend wants them."""
