"""Times of training steps, measured and predicted."""
