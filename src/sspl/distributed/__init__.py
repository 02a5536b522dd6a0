"""Several processes that train one network; one alone is the plain case."""
