"""Every layer of one model against every layer of another, in one pass over both."""
