"""Language models and classifiers: loading, small ones trained here, fine-tuning, and what they answer."""
