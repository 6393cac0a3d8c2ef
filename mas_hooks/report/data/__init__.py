"""What tables and figures show, read from records alone. No drawing."""
