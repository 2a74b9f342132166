"""What every folder may use: one-line errors, whole-file writes, strict readers, the command-line frame."""
