"""Tables and pages in the terminal, in Markdown and in HTML."""
