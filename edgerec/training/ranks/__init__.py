"""Training in several processes: their ranks (`gloo`), what they send (`traffic`), and their start (`launch`)."""
