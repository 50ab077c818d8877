"""Training in sparse form: tables whose active values alone have values and moments, and what moves them about."""
