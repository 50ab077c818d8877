"""Training in sparse form: tables that store active values alone, and the methods that change which are active."""
