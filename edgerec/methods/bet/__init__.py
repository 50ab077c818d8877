"""BET: a budgeted search over the sizes of whole tables."""
