"Example-guided image synthesis with masked spatial-channel attention."
