"""Ice by physics of its own, and what it does to the CT numbers."""
