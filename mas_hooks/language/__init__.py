"""What a text case study needs: labelled texts, fine-tunes, their responses and how those behave."""
