"""What a fitted alignment is worth: IIA with intervals, floors, null spaces, and tests between groups of models."""
