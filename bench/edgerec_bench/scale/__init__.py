"""A large synthetic catalogue against the dense model that most people would export, and against other libraries."""
