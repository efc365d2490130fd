"""Files of text that are predicted: one module per format, `recognise` for which one it is."""
