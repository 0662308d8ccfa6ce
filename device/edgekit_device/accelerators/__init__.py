"""Edge TPUs: which are there, what they say of themselves, and why one cannot be used. Importing this loads nothing."""
