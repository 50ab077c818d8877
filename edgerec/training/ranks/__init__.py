"""Training in several processes: their ranks (`gloo`) and their start (`launch`)."""
