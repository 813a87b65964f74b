"""What headstart costs, beside the plain way to do the same and beside the machine's limit, measured in turn."""
